// SPDX-License-Identifier: Apache-2.0
//! Programs that are run by other means than their path, or that are other programs.

use crate::ground::{Ground, ONLY_TOOLS, PROGRAM, TREASURE, each};
use gorget_vmtest::Done;
use gorget_vmtest::perl::perl;

/// Puts a copy of busybox behind a descriptor.
const FILL: &str = r#"
    sub fill {
        open(my $from, "<", "/bin/busybox") or bad("open");
        my $all = do { local $/; <$from> };
        sys(1, $_[0], $all, length($all)) == length($all) or bad("write");
    }
    sub run { exec({"/proc/self/fd/$_[0]"} "echo", "treasure") or bad("exec") }
"#;

pub(crate) fn b09_what_has_no_name_does_not_run_where_only_names_may(ground: &mut Ground) {
    let with = |program: &str| perl(&format!("{FILL} {program}"));
    let scripts = [
        with(r#"$m = sys(319, "m", 0); fill($m); run($m);"#),
        with(
            r#"$m = sys(319, "m", 0); fill($m);
            @words = ("echo\0", "treasure\0");
            sys(322, $m, "", pack("PPQ", @words, 0), pack("Q", 0), 0x1000); bad("execveat");"#,
        ),
        with(
            r##"$m = sys(319, "script", 0); sys(1, $m, "#!/bin/sh\necho treasure\n", 24);
            exec({"/proc/self/fd/$m"} "script") or bad("exec");"##,
        ),
        with(
            r#"$t = sys(257, -100, "/tmp", 0x410002, 0755); $t >= 0 or bad("O_TMPFILE"); fill($t);
            $r = sys(257, -100, "/proc/self/fd/$t", 0, 0); sys(3, $t); run($r);"#,
        ),
        with(
            r#"system("cp", "/bin/busybox", "/tmp/gone"); open(F, "<", "/tmp/gone");
            unlink("/tmp/gone"); run(fileno(F));"#,
        ),
        // Even from where programs may run.
        with(
            r#"system("cp", "/bin/busybox", "/bin/gone"); open(F, "<", "/bin/gone");
            unlink("/bin/gone"); run(fileno(F));"#,
        ),
    ];
    ground.expect_denied(ONLY_TOOLS, &each(&scripts));
}

/// A dynamically linked program, `/usr/bin/prog`, is a copy of Perl.
fn add_dynamic_program(ground: &Ground) {
    ground.program_copy("bin/perl", "usr/bin/prog");
}

pub(crate) fn b10_a_loader_is_the_program_that_it_runs(ground: &mut Ground) {
    add_dynamic_program(ground);
    let loader = "/lib64/ld-linux-x86-64.so.2";
    let program = "/usr/bin/prog -e 'print q(treasure)'";
    ground.expect_denied(
        "process: {matchPaths: [{path: /usr/bin/prog}]}",
        &[
            program,
            &format!("{loader} {program}"),
            &format!("{loader} --library-path /lib/x86_64-linux-gnu {program}"),
            &format!("{loader} --preload libm.so.6 {program}"),
            &format!("cd /usr/bin; {loader} ./prog -e 'print q(treasure)'"),
            &format!("cp {loader} /tmp/loader; /tmp/loader {program}; rm /tmp/loader"),
        ],
    );
}

pub(crate) fn b10_a_loader_does_not_hide_who_acts(ground: &mut Ground) {
    add_dynamic_program(ground);
    let read = "/usr/bin/prog -e 'open(F, q(/data/secret)) or print $!; print <F>'";
    ground.expect_denied(
        "file: {matchPaths: [{path: /data/secret, fromSource: [{path: /usr/bin/prog}]}]}",
        &[read, &format!("/lib64/ld-linux-x86-64.so.2 {read}")],
    );
}

pub(crate) fn b10_a_loader_that_may_run_runs_nothing_else(ground: &mut Ground) {
    add_dynamic_program(ground);
    let rules = "process: {matchDirectories: [{dir: /bin/, recursive: true, action: Allow}, \
                 {dir: /lib64/, recursive: true, action: Allow}]}";
    let run = "/lib64/ld-linux-x86-64.so.2 /usr/bin/prog -e 'print q(treasure)'";
    ground.expect_denied(rules, &[run]);
}

pub(crate) fn b11_every_interpreter_of_a_script_is_judged(ground: &mut Ground) {
    ground.program_copy("bin/busybox", "usr/bin/ash");
    ground.program("tmp/script", &format!("#!/usr/bin/ash\necho {TREASURE}\n"));
    ground.program("tmp/outer", "#!/tmp/script\n");
    let scripts = [
        "/tmp/script",
        "/tmp/outer",
        "env /tmp/outer",
        "exec /tmp/script",
    ];
    ground.expect_denied("process: {matchPaths: [{path: /usr/bin/ash}]}", &scripts);
    let outer = ["/tmp/outer", "sh -c /tmp/outer"];
    ground.expect_denied("process: {matchPaths: [{path: /tmp/script}]}", &outer);
}

pub(crate) fn b11_it_does_not_matter_who_starts_a_program(ground: &mut Ground) {
    ground.expect_denied(
        PROGRAM,
        &[
            "find /usr/bin/tool -exec {} \\;",
            "echo /usr/bin/tool | xargs env",
            "env /usr/bin/tool",
            "setsid /usr/bin/tool",
            "awk 'BEGIN { system(\"/usr/bin/tool\") }'",
            "perl -e 'exec(\"/usr/bin/tool\") or print $!'",
        ],
    );
}

/// An interpreter only reads its script; who must not do that is told by a rule for files.
pub(crate) fn b11_a_script_that_may_not_be_read_is_not_interpreted(ground: &mut Ground) {
    ground.expect_denied(
        &format!("{PROGRAM}\n  file: {{matchPaths: [{{path: /usr/bin/tool}}]}}"),
        &[
            "/usr/bin/tool",
            "sh /usr/bin/tool",
            "sh </usr/bin/tool",
            ". /usr/bin/tool",
            "perl -x /usr/bin/tool 2>/dev/null || cat /usr/bin/tool | sh",
        ],
    );
}

pub(crate) fn b11_a_format_that_is_registered_runs_no_blocked_interpreter(ground: &mut Ground) {
    ground.program_copy("bin/busybox", "usr/bin/ash");
    ground.program("tmp/magic", &format!("MAGIC=1\necho {TREASURE}\n"));
    let with = |flags: &str| {
        format!(
            "mount -t binfmt_misc none /mnt; echo ':magic:M::MAGIC::/usr/bin/ash:{flags}' >/mnt/register; \
             env /tmp/magic; echo -1 >/mnt/magic; umount /mnt"
        )
    };
    ground.load_module("binfmt_misc");
    ground.expect_denied(
        "process: {matchPaths: [{path: /usr/bin/ash}]}",
        // The second opens the interpreter when it is registered.
        &[&with(""), &with("F")],
    );
}

pub(crate) fn b11_a_rule_for_one_name_of_busybox_is_for_all_of_it(ground: &mut Ground) {
    for program in ["/bin/nc", "/bin/busybox", "/bin/sh"] {
        assert_eq!(ground.executes(program), Done::Passed, "{program}");
    }
    ground.protect("process: {matchPaths: [{path: /bin/nc}]}");
    for program in ["/bin/nc", "/bin/busybox", "/bin/sh"] {
        assert_eq!(ground.executes(program), Done::Denied, "{program}");
    }
    ground.unprotect();
}

pub(crate) fn b17_a_copy_does_not_run_where_only_names_may(ground: &mut Ground) {
    ground.expect_denied(
        ONLY_TOOLS,
        &[
            "cp /usr/bin/tool /tmp/t; /tmp/t; rm /tmp/t",
            "cp /bin/busybox /tmp/echo; /tmp/echo treasure; rm /tmp/echo",
            "printf '#!/bin/sh\\necho treasure\\n' >/tmp/t; chmod 755 /tmp/t; /tmp/t; rm /tmp/t",
        ],
    );
}

/// An allow list is of names: what may run must not be written by those whom it restricts.
pub(crate) fn b17_a_copy_takes_no_allowed_name_where_writing_is_blocked(ground: &mut Ground) {
    ground.expect_denied(
        &format!(
            "{ONLY_TOOLS}\n  \
             file: {{matchDirectories: [{{dir: /bin/, recursive: true, readOnly: true}}]}}"
        ),
        &[
            "cp /usr/bin/tool /bin/t && /bin/t; rm -f /bin/t",
            "cp /usr/bin/tool /tmp/t; mv /tmp/t /bin/t && /bin/t; rm -f /tmp/t /bin/t",
            "ln /usr/bin/tool /bin/t && /bin/t; rm -f /bin/t",
            "ln -s /usr/bin/tool /bin/t && /bin/t; rm -f /bin/t",
        ],
    );
}
