// SPDX-License-Identifier: Apache-2.0
//! What the agent says about itself: once to its own log, once to the feed.

use crate::clock;
use gorget_model::{Event, Level, Message, Node};
use gorget_telemetry::Feeder;
use std::sync::Arc;

/// Says things. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    node: Arc<Node>,
    feeder: Feeder,
}

impl Reporter {
    pub(crate) fn new(node: Arc<Node>, feeder: Feeder) -> Self {
        Self { node, feeder }
    }

    pub(crate) fn info(&self, text: impl Into<String>) {
        let text = text.into();
        tracing::info!("{text}");
        self.publish(Level::Info, text);
    }

    pub(crate) fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        tracing::warn!("{text}");
        self.publish(Level::Warn, text);
    }

    pub(crate) fn error(&self, text: impl Into<String>) {
        let text = text.into();
        tracing::error!("{text}");
        self.publish(Level::Error, text);
    }

    fn publish(&self, level: Level, text: String) {
        self.feeder.publish(Event::Message(Message {
            unix_micros: clock::unix_micros(),
            node: Arc::clone(&self.node),
            level,
            text,
        }));
    }
}
