// SPDX-License-Identifier: Apache-2.0
//! Reading what the virtual machine says.
//!
//! The first serial port carries the firmware's noise, then the job's output
//! between marker lines printed by `vmtest/guest/init`. The second carries the
//! kernel's messages, warnings and worse, each written before the kernel goes
//! on, so they survive a crash. Trouble in the kernel outweighs the job's exit
//! status: a test that passed beside a kernel warning did not pass.

/// What begins a line of the guest's own, followed by `begin`, `rc=N` or `broken WHY`.
const MARK: &str = "GORGET-VM ";

/// Parts of kernel messages that mean the kernel is no longer to be trusted.
const TROUBLE: &[&str] = &[
    "Kernel panic",
    "Oops",
    "BUG:",
    "WARNING:",
    "self-detected stall",
    "detected stalls",
    "detected expedited stalls",
    "general protection fault",
    "blocked for more than",
    "verifier bug",
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Mark {
    Begin,
    Exit(u8),
    Broken(String),
}

/// What came over both serial ports so far.
#[derive(Debug, Default)]
pub(crate) struct Console {
    began: bool,
    endings: Vec<Mark>,
    output: String,
    kernel: Vec<String>,
}

impl Console {
    /// Takes a line of the first port; returns what of it is the job's output.
    pub(crate) fn take(&mut self, line: &str) -> Option<String> {
        // The job's last line may lack its end, so a marker need not begin a line.
        let (text, mark) = match line.split_once(MARK) {
            Some((before, mark)) => (before, parse(mark)),
            None => (line, None),
        };
        let text = if mark.is_some() { text } else { line };
        let is_output = self.began && !self.ended() && !(mark.is_some() && text.is_empty());
        match mark {
            Some(Mark::Begin) => self.began = true,
            Some(ending) => self.endings.push(ending),
            None => {}
        }
        if !is_output {
            return None;
        }
        self.output.push_str(text);
        self.output.push('\n');
        Some(text.to_owned())
    }

    /// Takes a line of the second port.
    pub(crate) fn take_kernel(&mut self, line: &str) {
        self.kernel.push(line.to_owned());
    }

    /// True from the moment the job runs.
    pub(crate) fn began(&self) -> bool {
        self.began
    }

    /// True when the guest has said how the job ended.
    pub(crate) fn ended(&self) -> bool {
        !self.endings.is_empty()
    }

    /// True when the kernel reported trouble.
    pub(crate) fn troubled(&self) -> bool {
        self.trouble().is_some()
    }

    pub(crate) fn output(&self) -> &str {
        &self.output
    }

    /// The job's exit code, or a sentence that says why there is none to be trusted.
    pub(crate) fn verdict(&self) -> Result<u8, String> {
        if let Some(line) = self.trouble() {
            return Err(format!("the guest's kernel is in trouble: `{line}`"));
        }
        match self.endings.as_slice() {
            [Mark::Exit(code)] => Ok(*code),
            [Mark::Broken(why)] => Err(format!("the guest could not run the job: {why}")),
            [] if self.began => Err("the guest ended in the middle of the job".to_owned()),
            [] => Err(format!(
                "the guest ended before the job began{}",
                self.last_words()
            )),
            several => Err(format!("the guest ended {} times", several.len())),
        }
    }

    fn trouble(&self) -> Option<&str> {
        let is_trouble = |line: &&String| TROUBLE.iter().any(|part| line.contains(part));
        self.kernel.iter().find(is_trouble).map(String::as_str)
    }

    fn last_words(&self) -> String {
        let mut words = String::new();
        for line in self
            .kernel
            .iter()
            .skip(self.kernel.len().saturating_sub(20))
        {
            words.push_str("\n  ");
            words.push_str(line);
        }
        if words.is_empty() {
            words
        } else {
            format!("; its last messages:{words}")
        }
    }
}

/// A line as text, without the end of line and the control sequences of firmware and kernel.
pub(crate) fn plain(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let text = text.trim_end_matches(['\r', '\n']);
    match text.rfind('\r') {
        // Firmware returns to the start of the line and writes over it.
        Some(at) if text.contains('\u{1b}') => text.get(at + 1..).unwrap_or_default().to_owned(),
        _ => text.to_owned(),
    }
}

fn parse(mark: &str) -> Option<Mark> {
    if let Some(code) = mark.strip_prefix("rc=") {
        return code.parse().ok().map(Mark::Exit);
    }
    if let Some(why) = mark.strip_prefix("broken ") {
        return Some(Mark::Broken(why.to_owned()));
    }
    (mark == "begin").then_some(Mark::Begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(console: &str, kernel: &str) -> Console {
        let mut read = Console::default();
        for line in console.lines() {
            read.take(&plain(line.as_bytes()));
        }
        for line in kernel.lines() {
            read.take_kernel(line);
        }
        read
    }

    #[test]
    fn output_is_what_lies_between_the_marks() {
        let read = read(
            "SeaBIOS (version 1)\r\nGORGET-VM begin\r\none\r\n\r\ntwo\r\nGORGET-VM rc=7\r\nnoise\r\n",
            "",
        );
        assert_eq!(read.verdict(), Ok(7));
        assert_eq!(read.output(), "one\n\ntwo\n");
    }

    #[test]
    fn a_last_line_without_an_end_is_output_too() {
        let read = read("GORGET-VM begin\nhalfGORGET-VM rc=0\n", "");
        assert_eq!(read.output(), "half\n");
        assert_eq!(read.verdict(), Ok(0));
    }

    #[test]
    fn text_that_only_resembles_a_mark_is_output() {
        let read = read(
            "GORGET-VM begin\necho \"GORGET-VM $1\"\nGORGET-VM rc=0\n",
            "",
        );
        assert_eq!(read.output(), "echo \"GORGET-VM $1\"\n");
        assert_eq!(read.verdict(), Ok(0));
    }

    #[test]
    fn trouble_in_the_kernel_outweighs_success() {
        for line in [
            "[    3.1] Kernel panic - not syncing: sysrq triggered crash",
            "[    3.1] WARNING: CPU: 0 PID: 1 at kernel/bpf/core.c:1 f+0x1/0x2",
            "[    3.1] BUG: kernel NULL pointer dereference, address: 0000000000000000",
            "[    3.1] Oops: 0002 [#1] PREEMPT SMP PTI",
            "[    3.1] rcu: INFO: rcu_preempt self-detected stall on CPU",
            "[    3.1] general protection fault, probably for non-canonical address",
            "[    3.1] INFO: task sh:1 blocked for more than 120 seconds.",
        ] {
            let said = read("GORGET-VM begin\nGORGET-VM rc=0\n", line).verdict();
            assert_eq!(
                said,
                Err(format!("the guest's kernel is in trouble: `{line}`"))
            );
        }
    }

    #[test]
    fn ordinary_warnings_of_the_kernel_are_no_trouble() {
        let kernel = "[    0.1] [Firmware Bug]: the BIOS is old\n[    1.0] bpf: something";
        assert_eq!(
            read("GORGET-VM begin\nGORGET-VM rc=0\n", kernel).verdict(),
            Ok(0)
        );
    }

    #[test]
    fn there_must_be_exactly_one_outcome() {
        let none = read("GORGET-VM begin\n", "").verdict();
        assert_eq!(
            none,
            Err("the guest ended in the middle of the job".to_owned())
        );
        let two = read("GORGET-VM begin\nGORGET-VM rc=0\nGORGET-VM rc=0\n", "").verdict();
        assert_eq!(two, Err("the guest ended 2 times".to_owned()));
        let early = read("SeaBIOS\n", "no root").verdict().unwrap_err();
        assert_eq!(
            early,
            "the guest ended before the job began; its last messages:\n  no root"
        );
        let broken = read("GORGET-VM broken no tar\n", "").verdict();
        assert_eq!(
            broken,
            Err("the guest could not run the job: no tar".to_owned())
        );
    }

    #[test]
    fn what_the_firmware_wrote_over_is_dropped() {
        assert_eq!(
            plain(b"\x1b[2J\x1b[H\rGORGET-VM begin\r\n"),
            "GORGET-VM begin"
        );
        assert_eq!(plain(b"100%\rdone\r\n"), "100%\rdone");
    }
}
