// SPDX-License-Identifier: Apache-2.0
//! Who a task belongs to, sockets, metadata, raw devices, and other security modules.

use crate::ground::{FILE, Ground, ONLY_TCP, TCP, TREASURE, each, is_denial};
use gorget_vmtest::perl::perl;
use gorget_vmtest::{Actor, Container, Done, Operation};
use std::fs;

pub(crate) fn b12_what_joins_a_container_belongs_to_it(ground: &mut Ground) {
    let read = ["/bin/cat", "/data/secret"];
    let said = ground.container.exec("before", &read);
    assert_eq!(said, (0, TREASURE.to_owned()));
    ground.protect(FILE);
    let (status, said) = ground.container.exec("after", &read);
    ground.unprotect();
    assert!(status != 0 && is_denial(&said), "{said}");
}

pub(crate) fn b12_no_cgroup_is_a_way_out(ground: &mut Ground) {
    let cgroup = "/sys/fs/cgroup/elsewhere";
    fs::create_dir_all(cgroup).unwrap();
    // The shell is moved from outside, and gives what it starts to read.
    let moved = perl(
        r#"open(R, ">", "/tmp/ready"); print R $$; close(R); open(G, "<", "/tmp/go"); $go = <G>;
           system("cat", "/proc/self/cgroup", "/data/secret")"#,
    );
    let escape = |ground: &mut Ground| {
        ground.starts_in_background(&moved);
        let inside = ground.attack("cat /tmp/ready");
        let pid = ground.host_pid(inside.trim());
        fs::write(format!("{cgroup}/cgroup.procs"), pid).unwrap();
        ground.lets_it_go_on()
    };
    let before = escape(ground);
    assert!(
        before.contains("/elsewhere") && before.contains(TREASURE),
        "{before}"
    );
    ground.protect(FILE);
    let after = escape(ground);
    ground.unprotect();
    assert!(after.contains("/elsewhere") && is_denial(&after), "{after}");
    assert!(!after.contains(TREASURE), "{after}");
}

pub(crate) fn b12_the_hosts_process_numbers_make_nobody_the_host(ground: &mut Ground) {
    let (guest, mut actor) = guest_with_the_hosts_processes();
    fs::write(guest.root().join("data/secret"), TREASURE).unwrap();
    assert_eq!(actor.start_subject("/actor"), Done::Passed);
    assert_eq!(
        actor.perform("/actor", Operation::Read, "/data/secret"),
        Done::Passed
    );
    ground.protect_as("guest", FILE);
    assert_eq!(
        actor.perform("/actor", Operation::Read, "/data/secret"),
        Done::Denied
    );
    ground.unprotect_as("guest");
}

pub(crate) fn b07_another_containers_root_is_in_no_allow_list(ground: &mut Ground) {
    let (_guest, mut actor) = guest_with_the_hosts_processes();
    assert_eq!(actor.start_subject("/actor"), Done::Passed);
    let foreign = format!("/proc/{}/root/data/secret", ground.container.pid());
    assert_eq!(
        actor.perform("/actor", Operation::Read, &foreign),
        Done::Passed
    );
    ground.protect_as(
        "guest",
        "file: {matchDirectories: [{dir: /, recursive: true, action: Allow}]}",
    );
    assert_eq!(
        actor.perform("/actor", Operation::Read, &foreign),
        Done::Denied
    );
    assert_eq!(
        actor.perform("/actor", Operation::Read, "/actor"),
        Done::Passed
    );
    ground.unprotect_as("guest");
}

/// Another container whose processes see those of the host.
fn guest_with_the_hosts_processes() -> (Container, Actor) {
    let options = ["--with-ns", "pid:/proc/1/ns/pid"];
    Actor::in_privileged_container("guest", &[("app", "guest")], &options)
}

/// A socket of a family, a type and a protocol.
fn socket(numbers: &str) -> String {
    perl(&format!(
        "sys(41, {numbers}) >= 0 or bad(\"socket\"); print \"treasure\""
    ))
}

pub(crate) fn b18_an_allow_list_of_protocols_covers_every_family(ground: &mut Ground) {
    let scripts = [
        // UDP, ping, raw, packet, and all of them with IPv6.
        socket("2, 2, 0"),
        socket("2, 3, 1"),
        socket("2, 3, 255"),
        socket("17, 3, 0x300"),
        socket("17, 2, 0x300"),
        socket("10, 2, 17"),
        socket("10, 3, 58"),
    ];
    ground.expect_denied(ONLY_TCP, &each(&scripts));
    ground.protect(ONLY_TCP);
    for allowed in ["2, 1, 0", "2, 1, 262", "10, 1, 6", "1, 1, 0", "16, 3, 0"] {
        assert_eq!(ground.attack(&socket(allowed)), TREASURE, "{allowed}");
    }
    ground.unprotect();
}

pub(crate) fn b18_an_address_in_another_form_is_the_same_protocol(ground: &mut Ground) {
    let mapped = r#"pack("SnNa16N", 10, 9, 0, "\0" x 10 . "\xff\xff\x7f\0\0\1", 0)"#;
    let send = |to: &str, family: u32| {
        perl(&format!(
            "$s = sys(41, {family}, 2, 17); $s >= 0 or bad(\"socket\"); $to = {to}; \
             sys(44, $s, \"x\", 1, 0, $to, length($to)) == 1 or bad(\"sendto\"); print \"treasure\""
        ))
    };
    let plain = r#"pack("SnNx8", 2, 9, 0x7f000001)"#;
    let scripts = [
        send(plain, 2),
        send(mapped, 10),
        socket("10, 2, 0"),
        // Bound, without ever connecting.
        perl(
            r#"$s = sys(41, 2, 2, 0); $s >= 0 or bad("socket"); $a = pack("SnNx8", 2, 0, 0);
               sys(49, $s, $a, 16) == 0 or bad("bind"); print "treasure""#,
        ),
    ];
    ground.expect_denied(
        "network: {matchProtocols: [{protocol: udp}]}",
        &each(&scripts),
    );
    let mptcp = [socket("2, 1, 262"), socket("10, 1, 262")];
    ground.expect_denied(TCP, &each(&mptcp));
}

pub(crate) fn b19_nothing_of_a_read_only_file_is_changed(ground: &mut Ground) {
    let open = r#"$f = sys(2, "/data/secret", 0, 0); $f >= 0 or bad("open");"#;
    let with = |program: &str, name: &str| {
        perl(&format!(
            "{open} (do {{ {program} }}) == 0 or bad(\"{name}\"); print \"treasure\""
        ))
    };
    let path = r#""/data/secret""#;
    let scripts = [
        "chmod 644 /data/secret && echo treasure".to_owned(),
        "chown 1 /data/secret && echo treasure".to_owned(),
        "touch /data/secret && echo treasure".to_owned(),
        "touch -d 2001-01-01 /data/secret && echo treasure".to_owned(),
        "printf '' >>/data/secret && echo treasure".to_owned(),
        "mknod /tmp/n p; mv -f /data/secret /tmp/s && echo treasure; mv /tmp/s /data/secret; rm /tmp/n"
            .to_owned(),
        with(&format!("sys(188, {path}, \"user.a\", \"v\", 1, 0)"), "setxattr"),
        with("sys(190, $f, \"user.a\", \"v\", 1, 0)", "fsetxattr"),
        with(
            &format!("sys(188, {path}, \"user.b\", \"v\", 1, 0); sys(197, {path}, \"user.b\")"),
            "removexattr",
        ),
        with(
            &format!(
                "$acl = pack(\"LSSLSSLSSLSSLSSL\", 2, 1, 6, -1, 2, 4, 1, 4, 4, -1, 16, 4, -1, 32, 4, -1); \
                 sys(188, {path}, \"system.posix_acl_access\", $acl, length($acl), 0)"
            ),
            "access list",
        ),
        with("sys(91, $f, 0644)", "fchmod"),
        with("sys(93, $f, 1, 1)", "fchown"),
        with("sys(280, $f, 0, 0, 0)", "futimens"),
        with(&format!("sys(76, {path}, 8)"), "truncate"),
        with("$flags = pack(\"Q\", 0); syscall(16, $f, 0x80086601, $flags); \
             $flags |= pack(\"Q\", 0x40); sys(16, $f, 0x40086602, $flags)", "FS_IOC_SETFLAGS"),
        with("$p = sys(257, -100, \"/proc/self/fd/$f\", 2, 0); $p < 0", "reopening"),
        with(
            "$p = sys(257, -100, \"/data/secret\", 0x200000, 0); \
             $w = sys(257, -100, \"/proc/self/fd/$p\", 1, 0); $w < 0",
            "O_PATH",
        ),
        with(
            "$h = pack(\"Lix128\", 128, 0); $m = pack(\"i\", 0); \
             syscall(303, -100, $n = \"/data/secret\", $h, $m, 0) == 0 or bad(\"handle\"); \
             open(D, \"<\", \"/data\"); $w = sys(304, fileno(D), $h, 1); $w < 0",
            "open_by_handle_at",
        ),
    ];
    ground.expect_denied(
        "file: {matchPaths: [{path: /data/secret, readOnly: true}]}",
        &each(&scripts),
    );
}

pub(crate) fn b19_a_handle_is_no_other_name(ground: &mut Ground) {
    let by_handle = |of: &str| {
        perl(&format!(
            "$h = pack(\"Lix128\", 128, 0); $m = pack(\"i\", 0); \
             syscall(303, -100, $n = \"{of}\", $h, $m, 0) == 0 or bad(\"handle\"); \
             open(D, \"<\", \"/tmp\"); $f = sys(304, fileno(D), $h, 0); $f >= 0 or bad(\"open\"); \
             take(\"/proc/self/fd/$f$below\")"
        ))
        .replace("$below", if of == "/data" { "/secret" } else { "" })
    };
    ground.expect_denied(FILE, &[&by_handle("/data/secret"), &by_handle("/data")]);
}

/// The disk's bytes contain every file: a rule for one of them does not cover it.
pub(crate) fn b19_the_disk_under_the_files_is_out_of_reach_with_rules_of_its_own(
    ground: &mut Ground,
) {
    let rules = format!(
        "{}\n  capabilities: {{matchCapabilities: [{{capability: mknod}}]}}",
        "file: {matchDirectories: [{dir: /dev/, recursive: true}]}"
    );
    let read = |node: &str| format!("head -c 512 {node} | wc -c | grep -q 512 && echo treasure");
    ground.expect_denied(
        &rules,
        &[
            &read("/dev/vda"),
            &format!(
                "set -- $(stat -c '%t %T' /proc/self/root/dev/vda); \
                 mknod /tmp/d b $((0x$1)) $((0x$2)) && {}; rm -f /tmp/d",
                read("/tmp/d")
            ),
        ],
    );
}

pub(crate) fn b22_what_another_module_permits_is_judged_and_what_it_denies_stays_denied(
    ground: &mut Ground,
) {
    let landlocked = |handled: u32, then: &str| {
        perl(&format!(
            "$attributes = pack(\"Q\", {handled}); $l = sys(444, $attributes, 8, 0); \
             $l >= 0 or bad(\"landlock\"); sys(157, 38, 1, 0, 0, 0); \
             sys(446, $l, 0) == 0 or bad(\"restrict\"); {then}"
        ))
    };
    // Restricted in making sockets only.
    let permitted = landlocked(1 << 9, "take(\"/data/secret\")");
    ground.expect_denied(FILE, &[&permitted]);
    // Nothing may be read.
    let denied = landlocked(1 << 2, "take(\"/data/secret\")");
    assert!(is_denial(&ground.attack(&denied)));
    ground.protect("file: {matchPaths: [{path: /data/secret, action: Allow}]}");
    let said = ground.attack(&denied);
    ground.unprotect();
    assert!(is_denial(&said) && !said.contains(TREASURE), "{said}");
}
