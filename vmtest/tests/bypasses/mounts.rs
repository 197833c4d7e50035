// SPDX-License-Identifier: Apache-2.0
//! What is shown at another place: bind mounts, other mount namespaces, stacked file systems.

use crate::ground::{FILE, Ground, PROGRAM, TREASURE};
use gorget_vmtest::perl::perl;

pub(crate) fn b04_no_mount_shows_a_protected_tree_elsewhere(ground: &mut Ground) {
    ground.expect_denied(FILE, &[
        // The source is denied where it is named as it is.
        "mount -o bind /data /mnt && cat /mnt/secret; umount /mnt 2>&-",
        "touch /tmp/f; mount -o bind /data/secret /tmp/f && cat /tmp/f; umount /tmp/f 2>&-",
        // Where it is not, what is reached through the mount is judged by its other name.
        "cd /data/..; mount -o bind data /mnt && cat /mnt/secret; umount /mnt",
        "ln -s /data /tmp/l; mount -o bind /tmp/l /mnt; rm /tmp/l; cat /mnt/secret; umount /mnt",
        "mount -o bind . /mnt; cat /mnt/data/secret; umount /mnt",
        "mount -o rbind /data/../data /mnt; mkdir -p /tmp/m; mount -o bind /mnt /tmp/m; \
         cat /tmp/m/secret; umount /tmp/m; umount /mnt",
    ]);
    let bind =
        "ln -s /usr/bin /tmp/l; mount -o bind /tmp/l /mnt; rm /tmp/l; /mnt/tool; umount /mnt";
    ground.expect_denied(PROGRAM, &[bind]);
}

pub(crate) fn b04_a_mount_is_not_moved_away_nor_taken_off(ground: &mut Ground) {
    assert_eq!(ground.attack("rm /data/secret"), "");
    let mounted = "mount -t tmpfs none /data; echo treasure >/data/secret";
    assert_eq!(ground.attack(mounted), "");
    ground.expect_denied(FILE, &[
        "mount --move /data /mnt && cat /mnt/secret && mount --move /mnt /data",
        "cd /; mount --move data /mnt && cat /mnt/secret && mount --move /mnt /data",
        "ln -s /data /tmp/l; mount --move /tmp/l /mnt && cat /mnt/secret && mount --move /mnt /data",
    ]);
    // What is below comes to light, and what was above is reached by a descriptor.
    let script = perl(
        "chdir \"/data\"; sys(166, \"/data\", 2) == 0 or bad(\"umount\"); \
         take(\"secret\");",
    );
    let restore = format!("{script}; [ -e /data/secret ] || {{ {mounted}; }}");
    ground.expect_denied(FILE, &[&restore]);
    assert_eq!(ground.attack("umount /data"), "");
}

pub(crate) fn b04_the_new_mount_interface_shows_no_protected_tree_either(ground: &mut Ground) {
    let clone = "$fd = sys(428, -100, \"/data\", 1); $fd >= 0 or bad(\"open_tree\");";
    let attached = perl(&format!(
        "{clone} sys(429, $fd, \"\", -100, \"/mnt\", 4) == 0 or bad(\"move_mount\"); \
         take(\"/mnt/secret\"); \
         system(\"umount\", \"/mnt\");"
    ));
    let detached = perl(&format!("{clone} take(\"/proc/self/fd/$fd/secret\");"));
    ground.expect_denied(FILE, &[&attached, &detached]);
}

pub(crate) fn b04_nothing_is_put_over_what_may_run(ground: &mut Ground) {
    ground.program("bin/extra/ok", "#!/bin/sh\necho ok\n");
    ground.program("tmp/evil/ok", &format!("#!/bin/sh\necho {TREASURE}\n"));
    let rules = "process: {matchDirectories: [{dir: /bin/, recursive: true, action: Allow}, \
                 {dir: /bin/extra/, recursive: true, action: Allow}]}";
    ground.expect_denied(
        rules,
        &[
            "mount -o bind /tmp/evil /bin/extra && /bin/extra/ok; umount /bin/extra 2>&-",
            "mount -t tmpfs none /bin/extra && cp /tmp/evil/ok /bin/extra/ok && /bin/extra/ok; \
         umount /bin/extra 2>&-",
            "mv /bin/extra /tmp/x && mv /tmp/evil /bin/extra && /bin/extra/ok; \
         mv /bin/extra /tmp/evil && mv /tmp/x /bin/extra",
        ],
    );
}

pub(crate) fn b04_the_disk_mounted_again_has_the_same_names(ground: &mut Ground) {
    ground.expect_denied(
        FILE,
        &["mount -t ext4 /dev/vda /mnt; cat /mnt/var/tmp/victim/data/secret; umount /mnt"],
    );
}

pub(crate) fn b04_a_file_system_of_the_kernel_mounted_again_has_the_same_names(
    ground: &mut Ground,
) {
    let again = "mount -t sysfs none /mnt; cat /mnt/kernel/uevent_seqnum >/dev/null && \
                 echo treasure; umount /mnt";
    let rules = "file: {matchPaths: [{path: /sys/kernel/uevent_seqnum}]}";
    ground.expect_denied(rules, &[again]);
}

pub(crate) fn b04_another_proc_has_the_names_of_the_first(ground: &mut Ground) {
    let mounted = "mount -t proc none /mnt; cat /mnt/sys/kernel/modprobe >/dev/null && \
                   echo treasure; umount /mnt";
    let detached = perl(
        "$p = sys(430, \"proc\", 0); sys(431, $p, 6, 0, 0, 0); $m = sys(432, $p, 0, 0); \
         $m >= 0 or bad(\"fsmount\"); $f = sys(257, $m, \"sys/kernel/modprobe\", 0, 0); \
         $f >= 0 or bad(\"openat\"); print \"treasure\"",
    );
    let rules = "file: {matchPaths: [{path: /proc/sys/kernel/modprobe}]}";
    ground.expect_denied(rules, &[mounted, &detached]);
    ground.expect_denied(
        "file: {matchDirectories: [{dir: /proc/sys/, recursive: true, readOnly: true}]}",
        &[
            "mount -t proc none /mnt; echo treasure >/mnt/sys/kernel/domainname && \
           cat /proc/sys/kernel/domainname; umount /mnt",
        ],
    );
}

/// From then on the container is one that made many mounts, so this test is the last.
pub(crate) fn b04_no_number_of_mounts_makes_a_mount_forgotten(ground: &mut Ground) {
    let many = perl(
        "sub mount { sys(165, $_[0], \"/mnt\", 0, 4096, 0) == 0 or bad(\"mount\") } \
         symlink(\"/data\", \"/tmp/l\"); mount(\"/tmp/l\"); chdir(\"/mnt\"); \
         mount(\"/tmp\") for 1..600; \
         if (open(F, \"<\", \"secret\")) { print <F> } else { print $! } \
         chdir(\"/\"); sys(166, \"/mnt\", 2) for 0..600; unlink(\"/tmp/l\")",
    );
    ground.expect_denied(FILE, &[&many]);
}

pub(crate) fn b05_another_mount_namespace_is_no_way_out(ground: &mut Ground) {
    let pivot = "mount -t tmpfs none /mnt; mkdir /mnt/old; cd /mnt; pivot_root . old; \
                 /old/bin/busybox cat /old/data/secret";
    ground.expect_denied(
        FILE,
        &[
            "unshare -m cat /data/secret",
            "unshare -m sh -c 'mount -o bind / /mnt; cat /mnt/data/secret'",
            "unshare -m sh -c 'mount -o bind . /mnt; chroot /mnt /bin/cat /data/secret'",
            "unshare -r -m cat /data/secret",
            "unshare -p -f -m sh -c 'cat /data/secret'",
            &format!("unshare -m sh -c '{pivot}'"),
            "nsenter -t 1 -m cat /data/secret",
        ],
    );
    ground.expect_denied(
        PROGRAM,
        &["unshare -m /usr/bin/tool", "unshare -r -m /usr/bin/tool"],
    );
}

pub(crate) fn b08_a_stacked_file_system_shows_nothing_under_another_name(ground: &mut Ground) {
    let over = |lower: &str, then: &str| {
        format!(
            "mount -t tmpfs none /tmp; mkdir /tmp/u /tmp/w; \
             mount -t overlay -o lowerdir={lower},upperdir=/tmp/u,workdir=/tmp/w none /mnt; \
             {then}; umount /mnt; umount /tmp"
        )
    };
    ground.expect_denied(
        FILE,
        &[
            &over("/data", "cat /mnt/secret"),
            &over("/", "cat /mnt/data/secret"),
            // Writing copies it up.
            &over("/data", "echo more >>/mnt/secret && cat /tmp/u/secret"),
            &over("/data", "mv /mnt/secret /mnt/s && cat /mnt/s"),
        ],
    );
    ground.expect_denied(
        PROGRAM,
        &[
            &over("/usr", "/mnt/bin/tool"),
            &over("/", "/mnt/usr/bin/tool"),
        ],
    );
}
