// SPDX-License-Identifier: Apache-2.0
//! The actor: performs operations inside a workload when told to, and says how each ended.
//!
//! `actor serve [FROM TO]` reads requests from standard input, or a named pipe, one a line, and
//! answers each with one line on standard output, or another named pipe:
//! `passed`, `denied` (EACCES), `failed ERROR`, or `said TEXT` for a line of shell. It starts copies of itself from other paths as
//! `actor obey`; those perform what is passed on to them, so that the operation's subject is that
//! path. `actor try OPERATION PATH` performs one and ends. Any other arguments: it ends with success, which is what executing it as an object does.
#![expect(
    clippy::disallowed_methods,
    reason = "a test program that runs programs"
)]

use gorget_vmtest::objects;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["serve"] => serve(io::stdin().lock(), io::stdout()),
        ["serve", from, to] => {
            let to = OpenOptions::new().write(true).open(to);
            if let (Ok(from), Ok(to)) = (File::open(from), to) {
                serve(BufReader::new(from), to);
            }
        }
        ["obey"] => obey(),
        ["try", operation, path] => {
            let done = perform(
                operation,
                path,
                &mut HashMap::new(),
                &mut objects::Kept::new(),
            );
            answer(&mut io::stdout(), done);
        }
        ["enter", profile, path, "obey"] => enter(profile, path),
        _ => {}
    }
}

/// A copy of this program that runs from another path.
struct Subject {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

fn serve(from: impl BufRead, mut to: impl Write) {
    let mut subjects: HashMap<String, Subject> = HashMap::new();
    answer_line(&mut to, "ready");
    for line in from.lines().map_while(Result::ok) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let done = match words.as_slice() {
            ["start", path] => start(path, Command::new(path), &mut subjects),
            ["start-in", profile, path] => {
                let mut entering = Command::new("/proc/self/exe");
                entering.args(["enter", profile, path]);
                start(path, entering, &mut subjects)
            }
            ["end"] => {
                subjects.drain().for_each(|(_, subject)| end(subject));
                Ok(())
            }
            ["shell", ..] => {
                let script = line.strip_prefix("shell ").unwrap_or_default();
                answer_line(&mut to, &format!("said {}", shell(script)));
                continue;
            }
            ["do", subject, operation, path] => {
                let answer = pass_on(&mut subjects, subject, operation, path);
                answer_line(
                    &mut to,
                    &answer.unwrap_or_else(|error| format!("failed {error}")),
                );
                continue;
            }
            _ => Err(io::Error::other(format!("unknown request `{line}`"))),
        };
        answer(&mut to, done);
    }
    subjects.drain().for_each(|(_, subject)| end(subject));
}

/// What a line of shell says, on one line. Errors come after the rest.
fn shell(script: &str) -> String {
    let output = Command::new("/bin/sh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .output();
    let said = match output {
        Ok(output) => [output.stdout, output.stderr].concat(),
        Err(error) => error.to_string().into_bytes(),
    };
    String::from_utf8_lossy(&said)
        .replace('\\', "\\\\")
        .replace('\n', "\\n")
}

fn end(mut subject: Subject) {
    drop(subject.to);
    drop(subject.child.wait());
}

fn pass_on(
    subjects: &mut HashMap<String, Subject>,
    subject: &str,
    operation: &str,
    path: &str,
) -> io::Result<String> {
    let subject = subjects
        .get_mut(subject)
        .ok_or_else(|| io::Error::other(format!("`{subject}` was not started")))?;
    writeln!(subject.to, "{operation} {path}")?;
    subject.to.flush()?;
    let mut answer = String::new();
    subject.from.read_line(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}

/// Goes on as another copy of this program, in an AppArmor profile.
fn enter(profile: &str, path: &str) {
    let asked = fs::write("/proc/thread-self/attr/exec", format!("exec {profile}"));
    let error = match asked {
        Ok(()) => Command::new(path).arg("obey").exec(),
        Err(error) => error,
    };
    drop(writeln!(
        io::stderr(),
        "entering `{profile}` with `{path}`: {error}"
    ));
}

fn start(
    path: &str,
    mut command: Command,
    subjects: &mut HashMap<String, Subject>,
) -> io::Result<()> {
    if subjects.contains_key(path) {
        return Ok(());
    }
    let mut child = command
        .arg("obey")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("no pipes"));
    };
    let from = BufReader::new(from);
    subjects.insert(path.to_owned(), Subject { child, to, from });
    Ok(())
}

fn obey() {
    let mut kept: HashMap<String, File> = HashMap::new();
    let mut sockets = objects::Kept::new();
    for line in io::stdin().lines().map_while(Result::ok) {
        let (operation, path) = line.split_once(' ').unwrap_or((&line, ""));
        let done = perform(operation, path, &mut kept, &mut sockets);
        answer(&mut io::stdout(), done);
    }
}

fn perform(
    operation: &str,
    path: &str,
    kept: &mut HashMap<String, File>,
    sockets: &mut objects::Kept,
) -> io::Result<()> {
    match operation {
        "read" => File::open(path).map(drop),
        "write" => OpenOptions::new().write(true).open(path).map(drop),
        "readwrite" => OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map(drop),
        "keep" => {
            kept.insert(path.to_owned(), File::open(path)?);
            Ok(())
        }
        "read-kept" => {
            let mut byte = [0; 1];
            kept.get(path)
                .ok_or_else(|| io::Error::other("not kept"))?
                .read(&mut byte)
                .map(drop)
        }
        // With our own streams: opening others could be denied, too.
        "exec" => Command::new(path).arg("end").status().map(drop),
        "rename" => {
            let away = PathBuf::from(format!("{path}.away"));
            fs::rename(path, &away)?;
            fs::rename(&away, path)
        }
        "create" => OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map(drop),
        "mkdir" => fs::create_dir(path),
        "unlink" => fs::remove_file(path),
        "rmdir" => fs::remove_dir(path),
        "symlink" => symlink("/target", path),
        "link" => fs::hard_link(path, format!("{path}.link")),
        "chmod" => fs::set_permissions(path, fs::Permissions::from_mode(0o600)),
        "chown" => chown(path, Some(1), Some(1)),
        "truncate" => OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(path)
            .map(drop),
        "connect-local" => UnixStream::connect(path).map(drop),
        "send-local" => UnixDatagram::unbound()?.send_to(b"x", path).map(drop),
        "chroot" => std::os::unix::fs::chroot(path).and_then(|()| std::env::set_current_dir("/")),
        _ => objects::perform(operation, path, sockets)
            .unwrap_or_else(|| Err(io::Error::other(format!("unknown operation `{operation}`")))),
    }
}

fn answer(to: &mut impl Write, done: io::Result<()>) {
    match done {
        Ok(()) => answer_line(to, "passed"),
        Err(error) if error.raw_os_error() == Some(13) => answer_line(to, "denied"),
        Err(error) => answer_line(to, &format!("failed {error}")),
    }
}

/// Nobody can be told when the answer cannot be written.
fn answer_line(to: &mut impl Write, text: &str) {
    drop(writeln!(to, "{text}").and_then(|()| to.flush()));
}
