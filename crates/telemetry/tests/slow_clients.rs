// SPDX-License-Identifier: Apache-2.0
//! A client that does not keep up, and one that is gone, over a real server: nobody else notices, and
//! what was published is what was delivered and what was told to be lost.
#![cfg(test)]

mod client;
mod events;

use client::feeder::log_service_client::LogServiceClient;
use client::feeder::{Ask, PolicyEvent};
use events::{container, container_alert, host_alert, log, message};
use gorget_model::{Alert, Event, PolicyRef};
use gorget_telemetry::{Feeder, Services, bind};
use std::path::Path;
use tokio::sync::oneshot;
use tonic::Streaming;
use tonic::transport::Endpoint;

/// More than the queue and everything between server and client hold together.
const ALERTS: u64 = 60_000;
/// Alerts between which the publisher lets others run, well below the length of a queue.
const BATCH: u64 = 1_000;

/// Of a container and of the host, in turn.
fn alert(number: u64) -> Event {
    let alert = match number % 2 {
        0 => container_alert(),
        _ => host_alert(),
    };
    Event::Alert(Alert {
        policy: PolicyRef {
            name: number.to_string(),
            ..PolicyRef::default()
        },
        ..alert
    })
}

async fn alerts(path: &Path, filter: &str) -> Streaming<PolicyEvent> {
    let endpoint = Endpoint::from_shared(format!("unix:{}", path.display())).unwrap();
    let mut client = LogServiceClient::new(endpoint.connect().await.unwrap());
    let filter = filter.to_owned();
    client
        .watch_alerts(Ask { filter })
        .await
        .unwrap()
        .into_inner()
}

/// What a client gets until the stream ends: alerts by their numbers, and how many were lost.
#[derive(Debug, Default, PartialEq, Eq)]
struct Got {
    delivered: u64,
    lost: u64,
    /// Numbers only grow.
    in_order: bool,
}

impl Got {
    fn new() -> Self {
        Self {
            in_order: true,
            ..Self::default()
        }
    }

    /// Reads until everything is accounted for.
    async fn rest(mut self, stream: &mut Streaming<PolicyEvent>, mut last: Option<u64>) -> Self {
        while self.delivered + self.lost < ALERTS {
            let event = stream.message().await.unwrap().unwrap();
            if event.operation == "Dropped" {
                assert_eq!(event.kind, "SystemEvent");
                self.lost += event.pairs["Dropped"].parse::<u64>().unwrap();
                continue;
            }
            let number = event.policy.parse::<u64>().unwrap();
            self.in_order &= last.is_none_or(|last| number > last);
            last = Some(number);
            self.delivered += 1;
        }
        self
    }
}

#[tokio::test]
async fn a_slow_client_is_told_its_losses_a_dropped_one_is_let_go_and_others_get_everything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gorget.sock");
    let listener = bind(&path).unwrap();
    let feeder = Feeder::new();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = Services::new(feeder.clone()).serve(listener, async {
        drop(stopped.await);
    });
    let test = async {
        let mut quick = alerts(&path, "policy").await;
        let mut slow = alerts(&path, "all").await;
        let dropped = alerts(&path, "policy,action=Block").await;
        assert_eq!(feeder.followers().len(), 3);

        feeder.publish(Event::Log(log(container())));
        feeder.publish(alert(0));
        let first = slow.message().await.unwrap().unwrap();
        assert_eq!(first.policy, "0");
        drop(dropped);
        // It is let go although nothing is published for it.
        while feeder.followers().len() > 2 {
            tokio::task::yield_now().await;
        }
        // From here on the slow one waits until everything is published.
        let (all_published, wait) = oneshot::channel::<()>();
        let publish = async {
            for number in 1..ALERTS {
                feeder.publish(alert(number));
                if number % BATCH == 0 {
                    // Until the quick one has room again.
                    while feeder.followers()[0].queued > 0 {
                        tokio::task::yield_now().await;
                    }
                }
            }
            let slow = &feeder.followers()[1];
            assert_eq!(slow.queued, slow.capacity);
            let lost = slow.lost;
            all_published.send(()).unwrap();
            // Nothing of this is for these clients.
            feeder.publish(Event::Message(message("hello")));
            feeder.publish(Event::Log(log(container())));
            lost
        };
        let read_slowly = async {
            wait.await.unwrap();
            let got = Got {
                delivered: 1,
                ..Got::new()
            };
            got.rest(&mut slow, Some(0)).await
        };
        let read_quickly = Got::new().rest(&mut quick, None);
        let all = tokio::join!(publish, read_slowly, read_quickly);
        // Nothing else was on its way.
        feeder.publish(alert(ALERTS));
        for stream in [&mut slow, &mut quick] {
            let last = stream.message().await.unwrap().unwrap();
            assert_eq!(last.policy, ALERTS.to_string());
        }
        drop((slow, quick));
        stop.send(()).unwrap();
        all
    };
    let (served, (lost, slow, quick)) = tokio::join!(serving, test);
    served.unwrap();
    assert!(lost > 0);
    assert_eq!(
        quick,
        Got {
            delivered: ALERTS,
            lost: 0,
            in_order: true
        }
    );
    assert_eq!(slow.lost, lost);
    assert!(slow.in_order);
    assert_eq!(slow.delivered + slow.lost, ALERTS);
    assert_eq!(feeder.lost(), lost);
    assert_eq!(feeder.followers(), []);
}
