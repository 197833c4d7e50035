// SPDX-License-Identifier: Apache-2.0
//! Perl programs, for what the shell cannot do.

/// Submits requests to an `io_uring`, made by `ring(FLAGS)`, and gives their results.
pub const RING: &str = r#"
    pipe(my $out, my $in);
    sub poke { sys(1, fileno($in), $_[1], length($_[1])); sys(0, fileno($out), $_[0], length($_[1])) }
    sub peek { unpack("P$_[1]", pack("Q", $_[0])) }
    sub at { unpack("Q", pack("P", $_[0])) }
    sub ring {
        $p = pack("x8LLLx100", $_[0], 0, 1000);
        $ring = syscall(425, 4, $p); $ring >= 0 or bad("io_uring_setup");
        $rings = sys(9, 0, 4096, 3, 0x8001, $ring, 0);
        $entries = sys(9, 0, 4096, 3, 0x8001, $ring, 0x10000000);
        ($sq_tail, $array, $cq_head, $cq_mask, $cqes) =
            map { unpack("L", substr($p, $_, 4)) } (44, 64, 80, 88, 100);
    }
    sub submit {
        my ($code, $fd, $offset, $address, $len, $flags) = @_;
        poke($entries, pack("CCSlQQLLQx24", $code, $options, 0, $fd, $offset, $address, $len, $flags, 0));
        poke($rings + $array, pack("L", 0));
        poke($rings + $sq_tail, pack("L", unpack("L", peek($rings + $sq_tail, 4)) + 1));
        sys(426, $ring, 1, 1, 3, 0, 0) >= 0 or bad("io_uring_enter");
        my $head = unpack("L", peek($rings + $cq_head, 4));
        my $mask = unpack("L", peek($rings + $cq_mask, 4));
        my ($data, $result) = unpack("Ql", peek($rings + $cqes + 16 * ($head & $mask), 16));
        poke($rings + $cq_head, pack("L", $head + 1));
        if ($result < 0) { $! = -$result; bad("result") }
        return $result;
    }
    $secret = "/data/secret\0"; $aside = "/tmp/aside\0"; $text = "\0" x 64;
"#;

/// A program as a line of shell. `sys(NUMBER, ...)` is a system call; `bad(WHAT)` says
/// why it failed and ends; `take(PATH)` prints a file.
pub fn perl(program: &str) -> String {
    format!(
        "perl -e '$| = 1; \
         sub bad {{ print \"@_: $!\\n\"; exit 1 }} \
         sub sys {{ my ($n, @a) = @_; syscall($n, @a) }} \
         sub take {{ open(my $f, \"<\", $_[0]) or bad(\"open\"); print <$f> }} \
         {program}'"
    )
}
