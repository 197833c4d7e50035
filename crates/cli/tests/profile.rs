// SPDX-License-Identifier: Apache-2.0
//! `gorget profile` on a terminal that is played here, with a feed that is served here.
//!
//! A thread reads what the program writes and gives it to a terminal emulator; tests wait until its screen
//! is as it should be.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the binary")]

mod feed;

use expect_test::{ExpectFile, expect_file};
use feed::Agent;
use gorget_model::{
    Alert, AlertAction, AlertKind, Category, Container, Event, Log, Node, PolicyRef, Process,
    Workload,
};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// A test that waits for longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn container(name: &str) -> Arc<Workload> {
    Arc::new(Workload::Container(Container {
        id: format!("id-{name}"),
        name: name.to_owned(),
        namespace: Some("shop".to_owned()),
        ..Container::default()
    }))
}

fn process(exe: &str) -> Process {
    Process {
        exe: exe.to_owned(),
        ..Process::default()
    }
}

fn log(category: Category, exe: &str, resource: &str, data: &str) -> Event {
    Event::Log(Log {
        unix_micros: 1_767_323_045_000_006,
        node: Arc::new(Node::default()),
        workload: container("web"),
        process: process(exe),
        category,
        source: format!("{exe} and arguments"),
        resource: resource.to_owned(),
        data: data.to_owned(),
        result: "Passed",
    })
}

fn alert() -> Event {
    Event::Alert(Alert {
        unix_micros: 1_767_323_045_000_006,
        node: Arc::new(Node::default()),
        workload: container("db"),
        process: process("/usr/bin/head"),
        policy: PolicyRef {
            name: "ksp-token".to_owned(),
            ..PolicyRef::default()
        },
        kind: AlertKind::Policy,
        category: Category::File,
        source: "/usr/bin/head -c1 /run/secrets/token".to_owned(),
        resource: "/run/secrets/token".to_owned(),
        data: "lsm=FILE_OPEN".to_owned(),
        action: AlertAction::Block,
        result: "Permission denied",
        enforcer: "BPFLSM",
    })
}

/// An agent that keeps what the golden screens show.
fn agent() -> Agent {
    let agent = Agent::start();
    for event in [
        log(Category::File, "/usr/bin/cat", "/etc/motd", "repeats=41"),
        log(Category::File, "/usr/bin/cat", "/srv/\u{1b}[31mred\n", ""),
        log(
            Category::File,
            "/usr/sbin/nginx",
            "/var/log/nginx/access.log",
            "",
        ),
        log(Category::Process, "/bin/sh", "/usr/bin/cat /etc/motd", ""),
        alert(),
    ] {
        agent.feeder.publish(event);
    }
    agent
}

/// What the terminal shows, and whether the program may still write.
struct Shown {
    parser: vt100::Parser,
    has_ended: bool,
}

struct Terminal {
    master: File,
    slave: File,
    shown: Arc<(Mutex<Shown>, Condvar)>,
    child: Child,
}

fn size(columns: u16, lines: u16) -> Winsize {
    Winsize {
        ws_row: lines,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Terminal {
    /// Runs the program on a terminal of this size.
    fn start(columns: u16, lines: u16, socket: &Path, arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, size(columns, lines)).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let name = name.to_str().unwrap();
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(name)
                .unwrap()
        };
        let (slave, stdin, stdout) = (open(), open(), open());
        let child = Command::new(env!("CARGO_BIN_EXE_gorget"))
            .args([
                "profile",
                "--socket",
                socket.to_str().unwrap(),
                "--since",
                "0",
            ])
            .args(["--color", "never"])
            .args(arguments)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let master = File::from(master);
        let shown = Arc::new((
            Mutex::new(Shown {
                parser: vt100::Parser::new(cells(lines), cells(columns), 0),
                has_ended: false,
            }),
            Condvar::new(),
        ));
        let (mut reads, to) = (master.try_clone().unwrap(), Arc::clone(&shown));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error: the terminal is closed.
            while let Ok(length @ 1..) = reads.read(&mut bytes) {
                to.0.lock().unwrap().parser.process(&bytes[..length]);
                to.1.notify_all();
            }
            to.0.lock().unwrap().has_ended = true;
            to.1.notify_all();
        });
        Self {
            master,
            slave,
            shown,
            child,
        }
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The screen, once it is as it should be.
    fn wait(&self, is: impl Fn(&vt100::Screen) -> bool) -> String {
        let shown = self.shown.0.lock().unwrap();
        let wants = |shown: &mut Shown| !is(shown.parser.screen()) && !shown.has_ended;
        let (shown, timeout) = self
            .shown
            .1
            .wait_timeout_while(shown, PATIENCE, wants)
            .unwrap();
        let text = text(shown.parser.screen());
        assert!(!timeout.timed_out() && is(shown.parser.screen()), "{text}");
        text
    }

    fn wait_for(&self, part: &str) -> String {
        self.wait(|screen| text(screen).contains(part))
    }

    fn resize(&self, columns: u16, lines: u16) {
        {
            let mut shown = self.shown.0.lock().unwrap();
            shown
                .parser
                .screen_mut()
                .set_size(cells(lines), cells(columns));
        }
        tcsetwinsize(&self.master, size(columns, lines)).unwrap();
        // The terminal is nobody's controlling one here, so that the kernel tells nobody.
        self.signal(Signal::WINCH);
    }

    /// What it said when it ended, its status, and that the terminal is as it was.
    fn ended(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
        self.wait(|screen| !screen.alternate_screen() && !screen.hide_cursor());
        (status.code(), said)
    }
}

fn text(screen: &vt100::Screen) -> String {
    let (_, columns) = screen.size();
    let lines = screen
        .rows(0, columns.get())
        .map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

fn cells(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

/// The screen with the files, which has nothing in it that is not always the same.
fn files(terminal: &mut Terminal, expected: &ExpectFile) {
    terminal.wait_for("following alerts and logs of");
    terminal.press("1");
    terminal.wait_for("1 row by");
    terminal.press("2");
    let shown = terminal.wait(|screen| {
        let text = text(screen);
        text.contains("4 rows by") && text.contains("Tab kind")
    });
    expected.assert_eq(&shown);
}

#[test]
fn the_screen_is_right_in_80x24() {
    let agent = agent();
    let mut terminal = Terminal::start(80, 24, &agent.socket, &[]);
    files(&mut terminal, &expect_file!["testdata/profile-80x24.txt"]);
    terminal.press("q");
    assert_eq!(terminal.ended(), (Some(0), String::new()));
}

#[test]
fn the_screen_is_right_in_200x50_after_a_smaller_and_a_too_small_one() {
    let agent = agent();
    let mut terminal = Terminal::start(80, 24, &agent.socket, &[]);
    terminal.wait_for("following alerts and logs of");
    terminal.resize(40, 6);
    terminal.wait_for("needed: 60 x 8");
    terminal.resize(200, 50);
    files(&mut terminal, &expect_file!["testdata/profile-200x50.txt"]);
    // What it has no control over is told to end it.
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), (Some(0), String::new()));
}

#[test]
fn what_happens_is_shown_filtered_and_exported() {
    let agent = agent();
    let to = agent.socket.parent().unwrap().to_str().unwrap().to_owned();
    let mut terminal = Terminal::start(80, 24, &agent.socket, &["--export-to", &to]);
    terminal.wait_for("following alerts and logs of");
    terminal.press("2/late");
    terminal.wait_for("nothing has this in it");
    agent
        .feeder
        .publish(log(Category::File, "/bin/cat", "/late", ""));
    terminal.wait_for("1 row by");
    terminal.press("\re");
    terminal.wait_for("written to");
    let path = agent.socket.parent().unwrap().join("gorget-profile-1.json");
    let json = std::fs::read(path).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json[0]["resource"], "/late");
    assert_eq!(json.as_array().unwrap().len(), 1);
    terminal.press("q");
    assert_eq!(terminal.ended().0, Some(0));
}

#[test]
fn the_terminal_is_given_back_on_signals() {
    let agent = agent();
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let terminal = Terminal::start(80, 24, &agent.socket, &[]);
        terminal.wait_for("following alerts and logs of");
        terminal.signal(signal);
        assert_eq!(terminal.ended(), (Some(0), String::new()), "{signal:?}");
    }
}

#[test]
fn the_terminal_is_given_back_before_an_error_is_told() {
    let nowhere = TempDir::new().unwrap();
    let terminal = Terminal::start(80, 24, &nowhere.path().join("none.sock"), &[]);
    let (status, said) = terminal.ended();
    assert_eq!(status, Some(1));
    assert!(said.contains("cannot reach the agent"), "{said}");
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_gorget"))
        .args(["profile", "--socket", "/nowhere/gorget.sock"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("gorget summary"), "{said}");
}
