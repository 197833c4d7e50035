// SPDX-License-Identifier: Apache-2.0
//! `gorget top` against an agent that is played here.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the binary")]

use gorget_telemetry::proto::v1::{AgentStatus, Costs, MapFill, ProgramCost, WorkloadEvents};
use gorget_telemetry::status::{Asked, Status};
use gorget_telemetry::{Feeder, Services, bind};
use std::process::{Command, Output};
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot, watch};

/// The answer to a question: a second after the one before, with a thousand runs of half a microsecond
/// more.
fn costs(question: u64, not_measured: &str) -> Costs {
    let program = ProgramCost {
        id: 7,
        name: "file_open".to_owned(),
        runs: question * 1_000,
        nanos: question * 500_000,
    };
    Costs {
        at_nanos: question * 1_000_000_000,
        processors: 2,
        not_measured: not_measured.to_owned(),
        programs: match not_measured {
            "" => vec![program],
            _ => Vec::new(),
        },
        maps: vec![MapFill {
            name: "workloads".to_owned(),
            entries: 3,
            capacity: 1024,
        }],
        workloads: vec![WorkloadEvents {
            name: "web".to_owned(),
            alerts: question * 5,
            ..WorkloadEvents::default()
        }],
    }
}

/// Runs the program beside an agent that answers so, and gives what it was asked to measure.
fn run(not_measured: &'static str, arguments: &[&str]) -> (Output, Vec<u32>) {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("gorget.sock");
    let path = socket.clone();
    let (ready, is_ready) = std_mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = bind(&path).unwrap();
            let (asking, mut asked) = mpsc::channel(1);
            let services = Services::new(Feeder::new()).with_status(Status {
                asking,
                state: watch::channel(Arc::new(AgentStatus::default())).1,
            });
            ready.send(()).unwrap();
            let serving = services.serve(listener, async {
                drop(stopped.await);
            });
            let mut seconds = Vec::new();
            let answering = async {
                while let Some(asked) = asked.recv().await {
                    let Asked::Costs(request, answer) = asked else {
                        panic!("asked for something else: {asked:?}");
                    };
                    seconds.push(request.measure_seconds);
                    let question = u64::try_from(seconds.len()).unwrap();
                    answer.send(costs(question, not_measured)).unwrap();
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                served = serving => served.unwrap(),
                () = answering => {}
            }
            seconds
        })
    });
    is_ready.recv().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_gorget"))
        .args([
            "top",
            "--socket",
            socket.to_str().unwrap(),
            "--interval",
            "1s",
        ])
        .args(arguments)
        .output()
        .unwrap();
    stop.send(()).unwrap();
    (output, server.join().unwrap())
}

#[test]
fn two_answers_are_compared_and_the_kernel_measures_until_the_next() {
    let (output, seconds) = run("", &["-o", "json", "--count", "2"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 2);
    for line in text.lines() {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(json["programs"][0]["runsPerSecond"], 1_000.0);
        assert_eq!(json["programs"][0]["nanosPerRun"], 500.0);
        assert_eq!(json["programs"][0]["cpuPercent"], 0.05);
        assert_eq!(json["workloads"][0]["eventsPerSecond"], 5.0);
        assert_eq!(json["tables"][0]["capacity"], 1024);
    }
    assert_eq!(seconds, [2, 2, 2]);
}

#[test]
fn what_is_not_measured_is_said_and_the_rest_shown() {
    let (output, _) = run("the kernel does not measure programs: no", &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("the kernel does not measure programs: no\n"),
        "{text}"
    );
    assert!(!text.contains("HOOK"), "{text}");
    assert!(text.contains("workloads") && text.contains("web"), "{text}");
}
