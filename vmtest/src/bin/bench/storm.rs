// SPDX-License-Identifier: Apache-2.0
//! A storm of alerts: one process opens an audited file as fast as it can, on the same and only
//! processor on which the agent has to get rid of the alerts.
//!
//! What is reported as lost is counted against what was attempted: a difference is an error.

use crate::{measured, report, rules};
use anyhow::{Context as _, Result, bail};
use gorget_vmtest::{Agent, alert_field};
use std::fs;

const OPENINGS: u64 = 20_000;
const FILE: &str = "/another/app/data/cache/file-01";
/// Opened when the storm is over, and audited, too.
const LAST: &str = "/another/app/data/cache/file-02";

pub(crate) fn measure() -> Result<()> {
    let mut agent = Agent::start("");
    agent.write_policy("audit.yaml", &rules::audit(&[FILE, LAST]).text);
    agent.wait_for("in force for `gorget-vm`: audit");
    let before = agent_time()?;
    let took = measured(&["storm", FILE, &OPENINGS.to_string()])?;
    let spent = settled_agent_time()? - before;
    fs::read(LAST)?;
    let mut delivered = 0;
    loop {
        let alert = agent.next_alert();
        if alert_field(&alert, "Resource") == LAST {
            break;
        }
        delivered += 1;
    }
    let lost = OPENINGS - delivered;
    let mut counted = 0;
    while counted < lost {
        let line = agent.wait_for("new losses, stage `");
        let number = line.split_whitespace().find_map(|word| word.parse().ok());
        counted += number.unwrap_or(0_u64);
    }
    if counted != lost {
        bail!("{lost} alerts were lost and {counted} counted");
    }
    report("audit", "storm/attempted", OPENINGS);
    report("audit", "storm/delivered", delivered);
    report("audit", "storm/lost-and-counted", counted);
    report("audit", "storm/open-and-alert", took / OPENINGS);
    report(
        "audit",
        "storm/agent-for-each-alert",
        spent / delivered.max(1),
    );
    Ok(())
}

/// How long the agent's threads ran, in instructions.
fn agent_time() -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        if name.trim() != "gorgetd" {
            continue;
        }
        for thread in fs::read_dir(process.join("task"))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            let first = text.split_whitespace().next().context("no time")?;
            total += first.parse::<u64>()?;
        }
    }
    if total == 0 {
        bail!("there is no agent");
    }
    Ok(total)
}

/// The same when it has nothing to do any more.
fn settled_agent_time() -> Result<u64> {
    let mut last = agent_time()?;
    loop {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let time = agent_time()?;
        // It looks at its counters now and then, but handles no alert with so little.
        if time - last < 1_000_000 {
            return Ok(time);
        }
        last = time;
    }
}
