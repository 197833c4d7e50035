// SPDX-License-Identifier: Apache-2.0
//! Agents that come and go, through real sockets, to a client of the relay's service.
#![cfg(test)]

use gorget_model::{Event, Level, Message, Node};
use gorget_relay::{Agents, Fleet, FleetSettings, Hub, Resolve};
use gorget_telemetry::{Address, Client, Feeder, Limits, Services, Sorts, bind};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

/// What the test says.
struct Told(mpsc::UnboundedReceiver<Result<Agents, String>>);

impl Resolve for Told {
    async fn next(&mut self) -> Result<Agents, String> {
        match self.0.recv().await {
            Some(agents) => agents,
            None => std::future::pending().await,
        }
    }
}

struct Agent {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Agent {
    fn start(feeder: &Feeder, socket: &Path) -> Self {
        let listener = bind(socket).unwrap();
        let (stop, stopped) = oneshot::channel();
        let services = Services::new(feeder.clone());
        let mut set = JoinSet::new();
        set.spawn(async move {
            let told = async { stopped.await.unwrap() };
            services.serve(listener, told).await.unwrap();
        });
        #[expect(clippy::disallowed_methods, reason = "the test ends with it")]
        let task = tokio::spawn(async move { while set.join_next().await.is_some() {} });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

fn say(feeder: &Feeder, second: i64, text: &str) {
    feeder.publish(Event::Message(Message {
        unix_micros: second * 1_000_000,
        node: Arc::new(Node::default()),
        level: Level::Info,
        text: text.to_owned(),
    }));
}

async fn until(fleet: &Fleet, connected: usize) {
    while fleet.standing().connected != connected {
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn agents_that_come_and_go_are_heard_once_each_from_where_it_was_left() {
    let dir = tempfile::tempdir().unwrap();
    let feeder = || {
        Feeder::new().with_history(Limits {
            events: 100,
            bytes: 1 << 20,
        })
    };
    let (one, two) = (feeder(), feeder());
    let path = |name: &str| dir.path().join(name);
    let first = Agent::start(&one, &path("one"));
    let _second = Agent::start(&two, &path("two"));
    say(&one, 1, "before");

    let hub = Hub::default();
    let fleet = Fleet::default();
    let (tell, told) = mpsc::unbounded_channel();
    let settings = FleetSettings {
        tls: None,
        sorts: Sorts {
            messages: true,
            ..Sorts::default()
        },
        since: "1".to_owned(),
    };
    let mut tasks = JoinSet::new();
    let (running, to) = (fleet.clone(), hub.clone());
    tasks.spawn(async move { running.run(Told(told), settings, to).await });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = hub.clone();
    tasks.spawn(async move {
        let never = std::future::pending();
        gorget_relay::serve(served, listener, None, never)
            .await
            .unwrap();
    });
    let address: Address = address.to_string().parse().unwrap();
    let mut client = Client::connect_to(&address, None).await.unwrap();
    let mut heard = client.messages_of("all,since=1").await.unwrap();
    let mut next = async || heard.message().await.unwrap().unwrap().message;

    let agent = |name: &str| (name.to_owned(), Address::Socket(path(name)));
    tell.send(Ok(Agents::from([agent("one")]))).unwrap();
    assert_eq!(next().await, "before");
    tell.send(Ok(Agents::from([agent("one"), agent("two")])))
        .unwrap();
    until(&fleet, 2).await;
    say(&two, 2, "of the second");
    assert_eq!(next().await, "of the second");

    // The connection breaks, and the agent goes on meanwhile.
    first.stop().await;
    until(&fleet, 1).await;
    say(&one, 3, "meanwhile");
    let _first = Agent::start(&one, &path("one"));
    assert_eq!(next().await, "meanwhile");

    // It is not known which agents there are: those that were known are followed on.
    tell.send(Err("the server is away".to_owned())).unwrap();
    while fleet.standing().unresolved.is_none() {
        tokio::task::yield_now().await;
    }
    say(&two, 4, "still there");
    assert_eq!(next().await, "still there");

    // Taken off the list and put on it again: nothing twice.
    tell.send(Ok(Agents::from([agent("one")]))).unwrap();
    while fleet.standing().agents != 1 {
        tokio::task::yield_now().await;
    }
    say(&two, 5, "while it was off the list");
    tell.send(Ok(Agents::from([agent("one"), agent("two")])))
        .unwrap();
    assert_eq!(next().await, "while it was off the list");
    assert_eq!(hub.received().messages, 5);
}
