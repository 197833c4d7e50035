// SPDX-License-Identifier: Apache-2.0
//! Events in batches, for outputs. That some were lost before an event is an event as well.

use crate::hub::{Delivery, Subscription};
use gorget_telemetry::Received;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::StreamExt as _;

/// Events in one batch: some half MiB.
pub(crate) const MOST: usize = 512;

/// The next event, and those that come with it. `None` when the feed ended.
pub(crate) async fn next(events: &mut Subscription, wait: Duration) -> Option<Vec<Arc<Received>>> {
    let mut batch = vec![event(events.next().await?)];
    let full = async {
        while batch.len() < MOST {
            let Some(delivery) = events.next().await else {
                return;
            };
            batch.push(event(delivery));
        }
    };
    // Whether it is full or not.
    let (Ok(()) | Err(_)) = tokio::time::timeout(wait, full).await;
    Some(batch)
}

fn event(delivery: Delivery) -> Arc<Received> {
    match delivery {
        Delivery::Event(event) => event,
        Delivery::Lost(lost) => Arc::new(Received::Alert(Box::new(lost.to_alert()))),
    }
}
