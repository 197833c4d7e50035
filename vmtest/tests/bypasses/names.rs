// SPDX-License-Identifier: Apache-2.0
//! Other names for what a rule names: links, moved files and directories, other roots, `/proc`.

use crate::ground::{FILE, Ground, PROGRAM, TREASURE};
use gorget_vmtest::perl::perl;

pub(crate) fn b01_a_symbolic_link_to_the_file_is_no_other_name(ground: &mut Ground) {
    ground.expect_denied(
        FILE,
        &[
            "ln -s /data/secret /tmp/l; cat /tmp/l; rm /tmp/l",
            "ln -s /data /tmp/l; cat /tmp/l/secret; rm /tmp/l",
            "ln -s ../data/secret /tmp/l; ln -s l /tmp/m; cat /tmp/m; rm /tmp/l /tmp/m",
        ],
    );
    ground.expect_denied(PROGRAM, &["ln -s /usr/bin/tool /tmp/t; /tmp/t; rm /tmp/t"]);
}

pub(crate) fn b01_a_rule_for_a_link_covers_what_it_leads_to(ground: &mut Ground) {
    assert_eq!(ground.attack("ln -s /data/secret /etc/alias"), "");
    ground.expect_denied(
        "file: {matchPaths: [{path: /etc/alias}]}",
        &["cat /etc/alias", "cat /data/secret"],
    );
}

pub(crate) fn b02_no_second_name_is_given_to_what_a_rule_blocks(ground: &mut Ground) {
    ground.expect_denied(
        FILE,
        &["ln /data/secret /tmp/s && cat /tmp/s; rm -f /tmp/s"],
    );
    for rules in [
        PROGRAM,
        "process: {matchDirectories: [{dir: /usr/bin/}]}",
        "process: {matchPatterns: [{pattern: \"/usr/**/to?l\"}]}",
    ] {
        let link = "ln /usr/bin/tool /tmp/t && /tmp/t; rm -f /tmp/t";
        ground.expect_denied(rules, &[link]);
    }
}

pub(crate) fn b03_neither_the_file_nor_a_directory_above_it_is_moved(ground: &mut Ground) {
    let exchange = perl(
        "mkdir \"/tmp/e\"; \
         sys(316, -100, \"/tmp/e\", -100, \"/data\", 2) == 0 or bad(\"exchange\"); \
         take(\"/tmp/e/secret\"); sys(316, -100, \"/tmp/e\", -100, \"/data\", 2);",
    );
    ground.expect_denied(
        FILE,
        &[
            "mv /data/secret /tmp/s && cat /tmp/s && mv /tmp/s /data/secret",
            "mv /data /tmp/d && cat /tmp/d/secret && mv /tmp/d /data",
            &exchange,
        ],
    );
    ground.expect_denied(
        PROGRAM,
        &[
            "mv /usr/bin/tool /tmp/t && /tmp/t && mv /tmp/t /usr/bin/tool",
            "mv /usr /tmp/u && /tmp/u/bin/tool && mv /tmp/u /usr",
        ],
    );
}

pub(crate) fn b03_a_directory_that_a_pattern_leads_through_is_not_moved(ground: &mut Ground) {
    ground.write("srv/shop/keys/secret", TREASURE);
    let moved = "mv /srv /tmp/s && cat /tmp/s/shop/keys/secret && mv /tmp/s /srv";
    ground.expect_denied(
        "file: {matchPatterns: [{pattern: /srv/**/secret}]}",
        &[moved],
    );
}

pub(crate) fn b06_another_root_directory_changes_no_path(ground: &mut Ground) {
    ground.program_copy("bin/busybox", "usr/bin/box");
    let file = perl("chroot(\"/data\") or bad(\"chroot\"); chdir(\"/\"); take(\"/secret\");");
    let twice = perl(
        "chroot(\"/data\") or bad(\"chroot\"); mkdir(\"/x\"); chroot(\"/x\") or bad(\"chroot\"); \
         chdir(\"..\"); take(\"data/secret\");",
    );
    ground.expect_denied(FILE, &[&file, &twice]);
    let program = perl(
        "chroot(\"/usr\") or bad(\"chroot\"); chdir(\"/\"); \
         exec({\"/bin/box\"} \"echo\", \"treasure\") or bad(\"exec\");",
    );
    ground.expect_denied("process: {matchPaths: [{path: /usr/bin/box}]}", &[&program]);
}

pub(crate) fn b07_no_way_through_proc_is_another_name(ground: &mut Ground) {
    ground.expect_denied(
        FILE,
        &[
            "cat /proc/self/root/data/secret",
            "cat /proc/1/root/data/secret",
            "cd /data; cat /proc/self/cwd/secret",
            "exec 3</data; cat /proc/self/fd/3/secret",
            "cat /data/../proc/1/root/data/./../data//secret",
        ],
    );
    ground.expect_denied(
        PROGRAM,
        &[
            "/proc/self/root/usr/bin/tool",
            "/proc/1/root/usr/bin/../bin/tool",
        ],
    );
}
