// SPDX-License-Identifier: Apache-2.0
//! What clients ask about policies: KubeArmor's `PolicyService`, and Gorget's own, which says why not.
//!
//! Nothing is decided here. Every question goes to whoever owns the policies, with a way to answer;
//! one that is not answered, because the agent ends, is `Unavailable` for the client.

use crate::proto::policy::policy_service_server::PolicyService;
use crate::proto::policy::{self as kubearmor, PolicyStatus, Response as KubeArmorReply};
use crate::proto::v1::policies_server::Policies;
use crate::proto::v1::{
    ApplyReply, ApplyRequest, DeleteReply, DeleteRequest, GetReply, GetRequest, Given, ListReply,
    ListRequest,
};
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

/// A question about policies and where its answer goes.
#[derive(Debug)]
pub enum Asked {
    /// Put all policies of a text in force and keep them, or none.
    Apply(ApplyRequest, oneshot::Sender<Result<ApplyReply, Refusal>>),
    /// End a policy that was applied.
    Delete(DeleteRequest, oneshot::Sender<Result<(), Refusal>>),
    /// What is in force.
    List(oneshot::Sender<Vec<crate::proto::v1::Policy>>),
    /// Those of a name, as they were given.
    Get(GetRequest, oneshot::Sender<Vec<Given>>),
    /// One of KubeArmor's events: the kind that the call is for, and its JSON.
    Event(&'static str, Vec<u8>, oneshot::Sender<PolicyStatus>),
}

/// Why something was not done. What was in force is.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The policies have errors: each on a line.
    Invalid(String),
    /// There is no such policy among those that were applied.
    NotFound(String),
    /// It could not be kept.
    Failed(String),
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(why) => Self::invalid_argument(why),
            Refusal::NotFound(why) => Self::not_found(why),
            Refusal::Failed(why) => Self::internal(why),
        }
    }
}

/// Hands questions on.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
    owner: Sender<Asked>,
}

impl Forward {
    pub(crate) fn new(owner: Sender<Asked>) -> Self {
        Self { owner }
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Asked,
    ) -> Result<T, Status> {
        let ending = || Status::unavailable("the agent is stopping");
        let (answer, answered) = oneshot::channel();
        let asked = self.owner.send(question(answer)).await;
        asked.map_err(|_stopping| ending())?;
        answered.await.map_err(|_stopping| ending())
    }

    async fn event(
        &self,
        kind: &'static str,
        request: Request<kubearmor::Policy>,
    ) -> Result<Response<KubeArmorReply>, Status> {
        let event = request.into_inner().policy;
        let status = self.ask(|answer| Asked::Event(kind, event, answer)).await?;
        Ok(Response::new(KubeArmorReply {
            status: status.into(),
        }))
    }
}

#[tonic::async_trait]
impl PolicyService for Forward {
    async fn container_policy(
        &self,
        request: Request<kubearmor::Policy>,
    ) -> Result<Response<KubeArmorReply>, Status> {
        self.event("KubeArmorPolicy", request).await
    }

    async fn host_policy(
        &self,
        request: Request<kubearmor::Policy>,
    ) -> Result<Response<KubeArmorReply>, Status> {
        self.event("KubeArmorHostPolicy", request).await
    }

    async fn network_policy(
        &self,
        request: Request<kubearmor::Policy>,
    ) -> Result<Response<KubeArmorReply>, Status> {
        self.event("KubeArmorNetworkPolicy", request).await
    }
}

#[tonic::async_trait]
impl Policies for Forward {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyReply>, Status> {
        let request = request.into_inner();
        let reply = self.ask(|answer| Asked::Apply(request, answer)).await??;
        Ok(Response::new(reply))
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteReply>, Status> {
        let request = request.into_inner();
        self.ask(|answer| Asked::Delete(request, answer)).await??;
        Ok(Response::new(DeleteReply {}))
    }

    async fn list(&self, _request: Request<ListRequest>) -> Result<Response<ListReply>, Status> {
        let policies = self.ask(Asked::List).await?;
        Ok(Response::new(ListReply { policies }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetReply>, Status> {
        let request = request.into_inner();
        let policies = self.ask(|answer| Asked::Get(request, answer)).await?;
        Ok(Response::new(GetReply { policies }))
    }
}
