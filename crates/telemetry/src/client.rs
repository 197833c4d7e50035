// SPDX-License-Identifier: Apache-2.0
//! The other end of the feed, for the command line.

use crate::address::{Address, ClientTls};
use crate::proto;
use crate::proto::RequestMessage;
use crate::proto::log_service_client::LogServiceClient;
use crate::proto::v1::agent_client::AgentClient;
use crate::proto::v1::policies_client::PoliciesClient;
use crate::proto::v1::{
    AgentStatus, ApplyReply, ApplyRequest, Costs, DeleteRequest, GetCostsRequest, GetRequest,
    GetStatusRequest, Given, ListRequest, Policy,
};
use prost::Message as _;
use std::path::Path;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// What an agent says of a thousand policies for a thousand containers names each for each.
const MOST_STATUS: usize = 128 << 20;

/// The agent cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the agent at `{address}`")]
pub struct ConnectError {
    address: Address,
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

impl Received {
    /// As one line of JSON, without the line feed.
    pub fn json(&self) -> String {
        let text = match self {
            Self::Alert(alert) => serde_json::to_string(alert),
            Self::Log(log) => serde_json::to_string(log),
            Self::Message(message) => serde_json::to_string(message),
        };
        // Strings, numbers and maps with string keys: there is nothing that JSON cannot say.
        text.unwrap_or_default()
    }
}

/// How long an event is on the wire, in bytes.
pub fn encoded_len(event: &Received) -> usize {
    match event {
        Received::Alert(alert) => alert.encoded_len(),
        Received::Log(log) => log.encoded_len(),
        Received::Message(message) => message.encoded_len(),
    }
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
        Self::connect_to(&Address::Socket(path.to_owned()), None).await
    }

    /// Connects to an agent, over TCP with certificates if there are any.
    ///
    /// # Errors
    ///
    /// When nobody answers there, or the certificates are of no use.
    pub async fn connect_to(
        address: &Address,
        tls: Option<&ClientTls>,
    ) -> Result<Self, ConnectError> {
        let connect = async { address.endpoint(tls)?.connect().await };
        match connect.await {
            Ok(channel) => Ok(Self {
                service: LogServiceClient::new(channel.clone()),
                policies: PoliciesClient::new(channel.clone()),
                agent: AgentClient::new(channel).max_decoding_message_size(MOST_STATUS),
            }),
            Err(source) => Err(ConnectError {
                address: address.clone(),
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
        self.alerts_of(EVERYTHING).await
    }

    /// Follows the alerts that a [`crate::Filter`] asks for.
    ///
    /// # Errors
    ///
    /// What the agent answers.
    pub async fn alerts_of(&mut self, filter: &str) -> Result<Streaming<proto::Alert>, Status> {
        let stream = self.service.watch_alerts(request(filter)).await?;
        Ok(stream.into_inner())
    }

    /// Follows logs.
    ///
    /// # Errors
    ///
    /// What the agent answers.
    pub async fn logs(&mut self) -> Result<Streaming<proto::Log>, Status> {
        self.logs_of(EVERYTHING).await
    }

    /// Follows the logs that a [`crate::Filter`] asks for.
    ///
    /// # Errors
    ///
    /// What the agent answers.
    pub async fn logs_of(&mut self, filter: &str) -> Result<Streaming<proto::Log>, Status> {
        let stream = self.service.watch_logs(request(filter)).await?;
        Ok(stream.into_inner())
    }

    /// Follows what the agent says about itself.
    ///
    /// # Errors
    ///
    /// What the agent answers.
    pub async fn messages(&mut self) -> Result<Streaming<proto::Message>, Status> {
        self.messages_of(EVERYTHING).await
    }

    /// Follows what the agent says about itself, from when a [`crate::Filter`] says.
    ///
    /// # Errors
    ///
    /// What the agent answers.
    pub async fn messages_of(&mut self, filter: &str) -> Result<Streaming<proto::Message>, Status> {
        let stream = self.service.watch_messages(request(filter)).await?;
        Ok(stream.into_inner())
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

    /// Policies in force of a name, as they were given; none when there is none.
    ///
    /// # Errors
    ///
    /// What the agent answers.
    pub async fn given_policies(&mut self, request: GetRequest) -> Result<Vec<Given>, Status> {
        Ok(self.policies.get(request).await?.into_inner().policies)
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

    /// What the agent's programs cost, which the kernel then measures for so long.
    ///
    /// # Errors
    ///
    /// What the agent answers.
    pub async fn costs(&mut self, measure_seconds: u32) -> Result<Costs, Status> {
        let request = GetCostsRequest { measure_seconds };
        Ok(self.agent.get_costs(request).await?.into_inner())
    }
}

const EVERYTHING: &str = "all";

fn request(filter: &str) -> RequestMessage {
    RequestMessage {
        filter: filter.to_owned(),
    }
}
