// SPDX-License-Identifier: Apache-2.0
//! The other end of the feed, for the command line.

use crate::proto;
use crate::proto::RequestMessage;
use crate::proto::log_service_client::LogServiceClient;
use crate::proto::v1::agent_client::AgentClient;
use crate::proto::v1::policies_client::PoliciesClient;
use crate::proto::v1::{
    AgentStatus, ApplyReply, ApplyRequest, DeleteRequest, GetStatusRequest, ListRequest, Policy,
};
use std::path::{Path, PathBuf};
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// The agent cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the agent at `{}`", .path.display())]
pub struct ConnectError {
    path: PathBuf,
    #[source]
    source: tonic::transport::Error,
}

/// One thing from the feed.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// An alert.
    Alert(Box<proto::Alert>),
    /// A log.
    Log(Box<proto::Log>),
    /// The agent speaks about itself.
    Message(proto::Message),
}

/// A connection to the agent.
#[derive(Clone, Debug)]
pub struct Client {
    service: LogServiceClient<Channel>,
    policies: PoliciesClient<Channel>,
    agent: AgentClient<Channel>,
}

impl Client {
    /// Connects to the agent's socket.
    ///
    /// # Errors
    ///
    /// When nobody answers there.
    pub async fn connect(path: &Path) -> Result<Self, ConnectError> {
        let connect = async {
            Endpoint::from_shared(format!("unix:{}", path.display()))?
                .connect()
                .await
        };
        match connect.await {
            Ok(channel) => Ok(Self {
                service: LogServiceClient::new(channel.clone()),
                policies: PoliciesClient::new(channel.clone()),
                agent: AgentClient::new(channel),
            }),
            Err(source) => Err(ConnectError {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Follows alerts.
    ///
    /// # Errors
    ///
    /// What the agent answers.
    pub async fn alerts(&mut self) -> Result<Streaming<proto::Alert>, Status> {
        Ok(self.service.watch_alerts(everything()).await?.into_inner())
    }

    /// Follows logs.
    ///
    /// # Errors
    ///
    /// What the agent answers.
    pub async fn logs(&mut self) -> Result<Streaming<proto::Log>, Status> {
        Ok(self.service.watch_logs(everything()).await?.into_inner())
    }

    /// Follows what the agent says about itself.
    ///
    /// # Errors
    ///
    /// What the agent answers.
    pub async fn messages(&mut self) -> Result<Streaming<proto::Message>, Status> {
        Ok(self
            .service
            .watch_messages(everything())
            .await?
            .into_inner())
    }
}

impl Client {
    /// Has the agent put all policies of a text in force and keep them, or none. `name` is what errors
    /// call the text.
    ///
    /// # Errors
    ///
    /// What the agent answers: `InvalidArgument` with every problem on a line of its own.
    pub async fn apply_policies(
        &mut self,
        name: String,
        text: String,
    ) -> Result<ApplyReply, Status> {
        let request = ApplyRequest { name, text };
        Ok(self.policies.apply(request).await?.into_inner())
    }

    /// Has the agent end a policy that was applied.
    ///
    /// # Errors
    ///
    /// What the agent answers: `NotFound` when it was not applied.
    pub async fn delete_policy(&mut self, policy: DeleteRequest) -> Result<(), Status> {
        self.policies.delete(policy).await.map(drop)
    }

    /// Everything that is in force.
    ///
    /// # Errors
    ///
    /// What the agent answers.
    pub async fn policies(&mut self) -> Result<Vec<Policy>, Status> {
        let reply = self.policies.list(ListRequest {}).await?;
        Ok(reply.into_inner().policies)
    }
}

impl Client {
    /// What the agent is and does.
    ///
    /// # Errors
    ///
    /// What the agent answers.
    pub async fn status(&mut self) -> Result<AgentStatus, Status> {
        let reply = self.agent.get_status(GetStatusRequest {}).await?;
        Ok(reply.into_inner())
    }
}

fn everything() -> RequestMessage {
    RequestMessage {
        filter: "all".to_owned(),
    }
}
