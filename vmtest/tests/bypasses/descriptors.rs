// SPDX-License-Identifier: Apache-2.0
//! What is opened otherwise than by an opening call, was opened before, or changes while it is judged;
//! paths of any length.

use crate::ground::{FILE, Ground, TCP, TREASURE, each, is_denial};
use gorget_vmtest::perl::{RING, perl};

pub(crate) fn b13_requests_in_a_ring_are_judged_as_calls_are(ground: &mut Ground) {
    let with = |program: &str| perl(&format!("{RING} {program}"));
    let read = |flags: u32, options: u32, open: &str| {
        with(&format!(
            "ring({flags}); $options = {options}; $f = {open}; \
             submit(22, $f, 0, at($text), 64, 0); print $text"
        ))
    };
    let openat = "submit(18, -100, 0, at($secret), 0, 0)";
    // By a worker thread, with IOSQE_ASYNC; by a polling thread, with IORING_SETUP_SQPOLL.
    let scripts = [
        read(0, 0, openat),
        read(0, 16, openat),
        read(2, 0, openat),
        read(2, 16, openat),
        read(
            0,
            0,
            r#"submit(28, -100, at($how = "\0" x 24), at($secret), 24, 0)"#,
        ),
    ];
    ground.expect_denied(FILE, &each(&scripts));
    let moved = |code: u32, options: u32| {
        with(&format!(
            "ring(0); $options = {options}; submit({code}, -100, at($aside), at($secret), -100, 0); \
             rename(\"/tmp/aside\", \"/data/secret\"); unlink(\"/tmp/aside\"); print \"treasure\""
        ))
    };
    let removed = with(
        "ring(0); submit(36, -100, 0, at($secret), 0, 0); open(F, \">\", \"/data/secret\"); \
         print F \"treasure\"; print \"treasure\"",
    );
    ground.expect_denied(
        FILE,
        &[&moved(35, 0), &moved(35, 16), &moved(39, 0), &removed],
    );
}

pub(crate) fn b13_sockets_in_a_ring_are_judged_as_calls_are(ground: &mut Ground) {
    let socket = |options: u32| {
        perl(&format!(
            "{RING} ring(0); $options = {options}; submit(45, 2, 1, 0, 0, 0); print \"treasure\""
        ))
    };
    ground.expect_denied(TCP, &[&socket(0), &socket(16)]);
}

pub(crate) fn b14_a_link_that_changes_while_it_is_opened_leads_past_no_rule(ground: &mut Ground) {
    ground.write("tmp/open", "nothing");
    // Without a policy until the treasure is found; with one so often that the race would be won.
    let race = perl(
        r#"
        if (!($child = fork())) {
            for (;;) {
                symlink("/tmp/open", "/tmp/a"); rename("/tmp/a", "/tmp/flip");
                symlink("/data/secret", "/tmp/a"); rename("/tmp/a", "/tmp/flip");
            }
        }
        symlink("/tmp/open", "/tmp/flip"); $! = 0;
        for ($i = 0; $i < 300 && !$found; $i++) {
            if (open(my $f, "<", "/tmp/flip")) { $opened++; $found = <$f> =~ /treasure/ }
            elsif ($! == 13) { $denied++ }
        }
        kill(9, $child); wait; unlink("/tmp/a", "/tmp/flip");
        print "treasure" if $found; print "Permission denied" if $denied && $opened;
        "#,
    );
    ground.expect_denied(FILE, &[&race]);
}

pub(crate) fn b14_arguments_that_change_while_a_program_starts_are_those_it_gets(
    ground: &mut Ground,
) {
    ground.program_copy("actor", "usr/bin/prog");
    ground.program_copy("bin/busybox", "usr/bin/echo");
    let race = perl(
        r#"
        pipe(my $out, my $in);
        sub poke { sys(1, fileno($in), $_[1], length($_[1])); sys(0, fileno($out), $_[0], length($_[1])) }
        $page = sys(9, 0, 4096, 3, 0x21, -1, 0);
        poke($page, "harmless\0"); poke($page + 64, "echo\0");
        poke($page + 128, pack("QQQ", $page + 64, $page, 0));
        if (!($child = fork())) {
            for (;;) { poke($page, "treasure"); poke($page, "harmless") }
        }
        for ($i = 0; $i < 50 && !$found; $i++) {
            my $runner = open(my $said, "-|");
            if (!$runner) { sys(59, "/usr/bin/echo", $page + 128, pack("Q", 0)); exit 1 }
            $all = do { local $/; <$said> };
            close($said); $killed++ if ($? & 127) == 9;
            $found = 1 if $all =~ /treasure/;
        }
        kill(9, $child); wait;
        print "treasure" if $found; print "Permission denied" if $killed;
        "#,
    );
    let rules = "process: {matchPaths: [{path: /usr/bin/echo, allowedArgs: [harmless]}]}";
    ground.expect_denied(rules, &[&race]);
}

/// Opens something in a program that then waits.
fn keep_open(ground: &mut Ground, opens: &str, uses: &str) {
    ground.starts_in_background(&perl(&format!(
        "{opens} open(READY, \">\", \"/tmp/ready\"); close(READY); \
         open(GO, \"<\", \"/tmp/go\"); $go = <GO>; {uses}"
    )));
    assert_eq!(ground.attack("cat /tmp/ready"), "", "{opens}");
}

pub(crate) fn b15_what_is_open_already_is_judged_again(ground: &mut Ground) {
    let file = r#"open(F, "<", "/data/secret") or bad("open"); $f = fileno(F);"#;
    let dir = r#"$d = sys(257, -100, "/data", 0x200000, 0); $d >= 0 or bad("O_PATH");"#;
    let path = r#"$f = sys(257, -100, "/data/secret", 0x200000, 0); $f >= 0 or bad("O_PATH");"#;
    let text = r#"$text = "\0" x 64; "#;
    let keepers = [
        (file, r#"sysread(F, $t, 64) or bad("read"); print $t"#),
        (
            file,
            r#"syscall(17, $f, $text = "\0" x 64, 64, 0) > 0 or bad("pread"); print $text"#,
        ),
        (file, r#"sys(40, 1, $f, 0, 64) > 0 or bad("sendfile")"#),
        (
            file,
            r#"pipe(A, B); sys(275, $f, 0, fileno(B), 0, 64, 0) > 0 or bad("splice");
            close(B); print <A>"#,
        ),
        (
            file,
            r#"$m = sys(2, "/tmp/copy", 0x42, 0600); sys(326, $f, 0, $m, 0, 64, 0) > 0 or bad("copy");
            take("/tmp/copy")"#,
        ),
        (
            file,
            r#"$a = sys(9, 0, 4096, 1, 2, $f, 0); $a == -1 and bad("mmap");
            print unpack("P8", pack("Q", $a))"#,
        ),
        (file, r#"take("/proc/self/fd/$f")"#),
        // Inherited by another program.
        (file, r#"open(STDIN, "<&", F); exec("cat")"#),
        // Taken from another process.
        (
            file,
            r#"$parent = $$; if (fork() == 0) { close(F); $p = sys(434, $parent, 0);
            $g = sys(438, $p, $f, 0); $g >= 0 or bad("pidfd_getfd");
            syscall(0, $g, $text = "\0" x 64, 64) > 0 or bad("read"); print $text; exit } wait"#,
        ),
        // Sent by another process.
        (
            file,
            r#"socketpair(A, B, 1, 1, 0); $x = "x"; $iov = pack("PQ", $x, 1);
            $control = pack("QiiiI", 20, 1, 1, $f, 0);
            $message = pack("x16PQPQx8", $iov, 1, $control, 24);
            syscall(46, fileno(A), $message, 0) == 1 or bad("sendmsg");
            if (fork() == 0) { close(F); $c = "\0" x 24; $y = "y"; $iov = pack("PQ", $y, 1);
                $m = pack("x16PQPQx8", $iov, 1, $c, 24);
                syscall(47, fileno(B), $m, 0) == 1 or bad("recvmsg");
                $g = unpack("x16i", $c);
                syscall(0, $g, $text = "\0" x 64, 64) > 0 or bad("read"); print $text; exit } wait"#,
        ),
        (
            dir,
            r#"$f = sys(257, $d, "secret", 0, 0); $f >= 0 or bad("openat");
            take("/proc/self/fd/$f")"#,
        ),
        (dir, r#"sys(81, $d); take("secret")"#),
        (path, r#"take("/proc/self/fd/$f")"#),
    ];
    let mut problems = Vec::new();
    for (opens, uses) in keepers {
        let opens = format!("{text}{opens}");
        keep_open(ground, &opens, uses);
        let before = ground.lets_it_go_on();
        keep_open(ground, &opens, uses);
        ground.protect(FILE);
        let after = ground.lets_it_go_on();
        ground.unprotect();
        if !before.contains(TREASURE) || after.contains(TREASURE) || !is_denial(&after) {
            problems.push(format!("{uses}\nbefore: {before}\nafter: {after}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

pub(crate) fn b16_no_path_is_too_deep_or_too_long(ground: &mut Ground) {
    let names = [
        "d".repeat(200),
        "deep/".repeat(40),
        format!("{}/", "n".repeat(250)).repeat(15),
    ];
    for name in &names {
        ground.write(&format!("data/{name}/secret"), TREASURE);
    }
    let scripts: Vec<_> = names
        .iter()
        .map(|name| format!("cat /data/{name}/secret"))
        .collect();
    let scripts = each(&scripts);
    ground.expect_denied(
        "file: {matchDirectories: [{dir: /data/, recursive: true}]}",
        &scripts,
    );
    let rules = format!(
        "file: {{matchPaths: [{{path: /data/{}secret}}]}}",
        "deep/".repeat(40)
    );
    ground.expect_denied(&rules, &scripts[1..2]);
    let program = format!("{}tool", "deep/".repeat(40));
    ground.program(
        &format!("usr/bin/{program}"),
        &format!("#!/bin/sh\necho {TREASURE}\n"),
    );
    ground.expect_denied(
        "process: {matchDirectories: [{dir: /usr/bin/, recursive: true}]}",
        &[&format!("/usr/bin/{program}")],
    );
}

/// Goes down until the working directory's path has more than 4,096 bytes.
const DOWN: &str =
    r#"chdir("/tmp"); $n = "n" x 250; for (1..20) { mkdir($n); chdir($n) or bad("chdir") }"#;

pub(crate) fn b16_a_mount_too_deep_for_a_path_shows_nothing(ground: &mut Ground) {
    let bind = perl(&format!(
        "{DOWN} symlink(\"/data\", \"/tmp/l\"); mkdir(\"m\"); \
         sys(165, \"/tmp/l\", \"m\", 0, 4096, 0) == 0 or bad(\"mount\"); unlink(\"/tmp/l\"); \
         if (open(F, \"<\", \"m/secret\")) {{ print <F> }} else {{ print $! }} \
         sys(166, \"m\", 2)"
    ));
    ground.expect_denied(FILE, &[&bind]);
}

pub(crate) fn b16_what_has_no_path_is_in_no_allow_list(ground: &mut Ground) {
    let made = perl(&format!(
        "{DOWN} open(F, \">\", \"secret\"); print F \"treasure\""
    ));
    assert_eq!(ground.attack(&made), "");
    ground.expect_denied(
        "file: {matchDirectories: [{dir: /, recursive: true, action: Allow}]}",
        &[&perl(&format!("{DOWN} take(\"secret\")"))],
    );
}
