// SPDX-License-Identifier: Apache-2.0
//! Where bypasses are tried: a privileged container with tools, the agent, and a treasure.
//!
//! The attacker is root in the container, with every capability and all of the host's devices, and
//! has busybox, Perl (for system calls by number) and the actor. A script that gets hold of the
//! treasure prints it. `/data/secret` contains it, `/usr/bin/tool` says it.

use gorget_vmtest::{Actor, Container, Done, Operation};

use gorget_vmtest::{Agent, Containerd};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

pub(crate) const TREASURE: &str = "treasure";
pub(crate) const FILE: &str = "file: {matchPaths: [{path: /data/secret}]}";
pub(crate) const PROGRAM: &str = "process: {matchPaths: [{path: /usr/bin/tool}]}";
/// Nothing but the tools of the attack may run.
pub(crate) const ONLY_TOOLS: &str =
    "process: {matchDirectories: [{dir: /bin/, recursive: true, action: Allow}]}";
pub(crate) const TCP: &str = "network: {matchProtocols: [{protocol: tcp}]}";
pub(crate) const ONLY_TCP: &str = "network: {matchProtocols: [{protocol: tcp, action: Allow}]}";

const VICTIM: &str = "victim";
const CONFIG: &str = "defaultFilePosture: block\ndefaultNetworkPosture: block\n";
/// Everything in `/bin`, so that one rule can name all tools; libraries where the loader looks.
const TOOLS: &[(&str, &str)] = &[
    ("/bin/busybox", "bin/busybox"),
    ("/usr/bin/perl", "bin/perl"),
    ("/lib64/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2"),
    (
        "/lib/x86_64-linux-gnu/libc.so.6",
        "lib/x86_64-linux-gnu/libc.so.6",
    ),
    (
        "/lib/x86_64-linux-gnu/libm.so.6",
        "lib/x86_64-linux-gnu/libm.so.6",
    ),
    (
        "/lib/x86_64-linux-gnu/libcrypt.so.1",
        "lib/x86_64-linux-gnu/libcrypt.so.1",
    ),
];

/// A privileged container with tools to attack from inside, and the agent.
pub(crate) struct Ground {
    // Ended in this order.
    actor: Actor,
    pub(crate) container: Container,
    agent: Agent,
    policies: u32,
    _containerd: Containerd,
}

impl Ground {
    pub(crate) fn new() -> Self {
        // What another ground left there.
        drop(fs::remove_dir_all(Container::root_of(VICTIM)));
        let containerd = Containerd::start();
        let agent = Agent::start(CONFIG);
        let labels = [("app", VICTIM)];
        let (container, actor) = Actor::in_privileged_container(VICTIM, &labels, &[]);
        let mut ground = Self {
            actor,
            container,
            agent,
            policies: 0,
            _containerd: containerd,
        };
        assert_eq!(ground.actor.start_subject("/actor"), Done::Passed);
        ground.install_tools();
        ground
    }

    fn install_tools(&mut self) {
        for (from, to) in TOOLS {
            let to = self.path(to);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(from, to).unwrap();
        }
        symlink("busybox", self.path("bin/sh")).unwrap();
        assert_eq!(self.attack("/bin/busybox --install -s /bin"), "");
    }

    /// Makes everything as a test expects to find it.
    pub(crate) fn tidy(&self) {
        let outside = Container::root_of(VICTIM);
        for dir in ["tmp", "mnt", "data", "usr/bin"] {
            drop(fs::remove_dir_all(outside.join(dir)));
            fs::create_dir_all(outside.join(dir)).unwrap();
        }
        self.write("data/secret", TREASURE);
        self.program("usr/bin/tool", &format!("#!/bin/sh\necho {TREASURE}\n"));
    }

    fn path(&self, below: &str) -> PathBuf {
        self.container.root().join(below)
    }

    pub(crate) fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn program(&self, below: &str, text: &str) {
        self.write(below, text);
        fs::set_permissions(self.path(below), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A copy of a program of the container's at another place.
    pub(crate) fn program_copy(&self, of: &str, below: &str) {
        fs::copy(self.path(of), self.path(below)).unwrap();
    }

    /// Puts a policy in force that has these rules.
    pub(crate) fn protect(&mut self, rules: &str) {
        self.protect_as(VICTIM, rules);
    }

    pub(crate) fn unprotect(&mut self) {
        self.unprotect_as(VICTIM);
    }

    /// As [`Ground::protect`], for another container.
    pub(crate) fn protect_as(&mut self, app: &str, rules: &str) {
        self.policies += 1;
        let name = format!("guard-{}", self.policies);
        self.agent.write_policy(
            "p.yaml",
            &format!(
                "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
                 metadata: {{name: {name}}}\nspec:\n  \
                 selector: {{matchLabels: {{app: {app}}}}}\n  {rules}\n"
            ),
        );
        self.agent
            .wait_for(&format!("in force for `{app}`: {name}"));
    }

    pub(crate) fn unprotect_as(&mut self, app: &str) {
        self.agent.remove_policy("p.yaml");
        self.agent
            .wait_for(&format!("no policy is in force for `{app}`"));
    }

    /// What a shell script in the container says.
    pub(crate) fn attack(&mut self, script: &str) -> String {
        self.actor.shell(&script.replace('\n', " "))
    }

    /// Without any shell.
    pub(crate) fn executes(&mut self, program: &str) -> Done {
        self.actor.perform("/actor", Operation::Exec, program)
    }

    /// Starts a program that says something to `/tmp/ready`, then waits for a line from `/tmp/go`.
    pub(crate) fn starts_in_background(&mut self, program: &str) {
        let said = self.attack(&format!(
            "rm -f /tmp/go /tmp/ready /tmp/done; mkfifo /tmp/go /tmp/ready /tmp/done; \
             {{ {program} >/tmp/said 2>&1; echo >/tmp/done; }} >/dev/null 2>&1 &"
        ));
        assert_eq!(said, "", "{program}");
    }

    /// What a program in the background says when it is let go on.
    pub(crate) fn lets_it_go_on(&mut self) -> String {
        self.attack("echo >/tmp/go; read done </tmp/done; cat /tmp/said")
    }

    /// The number on the host of the process with this number in the container.
    pub(crate) fn host_pid(&self, inside: &str) -> String {
        let is_it = |status: &str| {
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            let numbers: Vec<_> = numbers.unwrap_or_default().split_whitespace().collect();
            numbers.len() == 2 && numbers[1] == inside
        };
        fs::read_dir("/proc")
            .unwrap()
            .map(|entry| entry.unwrap())
            .find(|entry| fs::read_to_string(entry.path().join("status")).is_ok_and(|s| is_it(&s)))
            .unwrap_or_else(|| panic!("nobody is {inside} in the container"))
            .file_name()
            .into_string()
            .unwrap()
    }

    pub(crate) fn load_module(&self, module: &str) {
        let loaded = Command::new("modprobe").arg(module).status().unwrap();
        assert!(loaded.success(), "{module}");
    }

    /// Each script must get the treasure without the rules, and be denied with them. It has to
    /// leave things as they were.
    pub(crate) fn expect_denied(&mut self, rules: &str, scripts: &[&str]) {
        let mut problems = Vec::new();
        for script in scripts {
            let said = self.attack(script);
            if !said.contains(TREASURE) || is_denial(&said) {
                problems.push(format!("fails without a policy: {script}\n{said}"));
            }
        }
        self.protect(rules);
        for script in scripts {
            let said = self.attack(script);
            if said.contains(TREASURE) || !is_denial(&said) {
                problems.push(format!("is not denied with a policy: {script}\n{said}"));
            }
        }
        self.unprotect();
        assert!(problems.is_empty(), "{rules}\n{}", problems.join("\n"));
    }
}

/// Where a capability is missing, the kernel answers in its own way; a loader does not say why.
pub(crate) fn is_denial(said: &str) -> bool {
    [
        "Permission denied",
        "Operation not permitted",
        "failed to map segment",
    ]
    .iter()
    .any(|denial| said.contains(denial))
}

/// Scripts as they are passed on.
pub(crate) fn each(scripts: &[String]) -> Vec<&str> {
    scripts.iter().map(String::as_str).collect()
}
