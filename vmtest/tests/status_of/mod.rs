// SPDX-License-Identifier: Apache-2.0
//! What the agent says of itself, asked for. Apart from the library: the actor, which is copied into
//! containers by the dozen, would be three times as large with a client of gRPC in it.

use gorget_telemetry::Client;
use gorget_telemetry::proto::v1::AgentStatus;
use std::path::Path;

/// What the agent at `socket` answers when it is asked for everything.
pub(crate) fn status(socket: &str) -> AgentStatus {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut client = Client::connect(Path::new(socket)).await.unwrap();
        client.status().await.unwrap()
    })
}
