// SPDX-License-Identifier: Apache-2.0
//! Whether the cluster has the kinds that policies are of, and whether they keep what is written into them.
//!
//! A kind that is missing is made, if the configuration says so and the role allows it. One that is there is
//! never changed: it may be KubeArmor's, which has the same name and keeps a status of one word only, so that
//! conditions are dropped by the API server without a word. That is said.

use crate::api::{AskError, Objects, Written};
use crate::lease::hold::Leading;
use kube::Client;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// How often it is looked.
const PERIOD: Duration = Duration::from_secs(600);
/// As long as this replica does not write.
const AGAIN: Duration = Duration::from_secs(15);

/// Ours, as they are installed.
const DEFINITIONS: [&str; 5] = [
    include_str!("../../../deploy/crds/kubearmorpolicies.yaml"),
    include_str!("../../../deploy/crds/kubearmorhostpolicies.yaml"),
    include_str!("../../../deploy/crds/kubearmorclusterpolicies.yaml"),
    include_str!("../../../deploy/crds/kubearmornetworkpolicies.yaml"),
    include_str!("../../../deploy/crds/kubearmorconfigs.yaml"),
];

/// The definitions, by name.
#[derive(Debug)]
pub(crate) struct Definitions(Vec<(String, Value)>);

/// A definition that is shipped cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a CRD that the operator has with it cannot be read")]
pub(crate) struct DefinitionError(#[source] Box<serde_saphyr::Error>);

impl Definitions {
    pub(crate) fn read() -> Result<Self, DefinitionError> {
        let all = DEFINITIONS.into_iter().map(|text| {
            let object: Value =
                serde_saphyr::from_str(text).map_err(|error| DefinitionError(Box::new(error)))?;
            let name = object.pointer("/metadata/name").and_then(Value::as_str);
            Ok((name.unwrap_or_default().to_owned(), object))
        });
        Ok(Self(all.collect::<Result<_, _>>()?))
    }
}

/// What is not as it should be with a kind that is there.
fn verify(own: &Value, there: &Value) -> Vec<String> {
    let Some(version) = served(there) else {
        return vec!["it does not serve `v1`".to_owned()];
    };
    let mut problems = Vec::new();
    let scope = |crd: &Value| crd.pointer("/spec/scope").cloned();
    if scope(own) != scope(there) {
        let scope = scope(own).unwrap_or_default();
        problems.push(format!("its scope is not {scope}"));
    }
    if version.pointer("/subresources/status").is_none() {
        problems.push("it has no status, so that nothing can be said of an object".to_owned());
    }
    let status = |version: &Value, field: &str| {
        let status = version.pointer("/schema/openAPIV3Schema/properties/status");
        let status = status.unwrap_or(&Value::Null);
        let keeps_all = status.get("x-kubernetes-preserve-unknown-fields");
        let named = status.pointer(&format!("/properties/{field}")).is_some();
        (named, named || keeps_all == Some(&Value::Bool(true)))
    };
    let is_needed = |field: &str| served(own).is_some_and(|own| status(own, field).0);
    let dropped = ["conditions", "observedGeneration"].into_iter();
    let dropped = dropped.filter(|field| is_needed(field) && !status(version, field).1);
    let dropped: Vec<_> = dropped.map(|field| format!("`{field}`")).collect();
    if !dropped.is_empty() {
        problems.push(format!(
            "it does not keep {} of the status; `kubectl apply --server-side --force-conflicts -f deploy/crds/` \
             has it do so",
            dropped.join(" and ")
        ));
    }
    problems
}

/// The version that is used, if it is served.
fn served(crd: &Value) -> Option<&Value> {
    let versions = crd.pointer("/spec/versions")?.as_array()?;
    let mut versions = versions.iter();
    versions.find(|it| {
        it.get("name") == Some(&Value::from("v1")) && it.get("served") == Some(&Value::Bool(true))
    })
}

/// Looks after the kinds.
#[derive(Debug)]
pub(crate) struct Kinds {
    crds: Objects,
    definitions: Definitions,
    is_installing: bool,
    leading: Leading,
    /// What was said already.
    said: BTreeSet<String>,
}

impl Kinds {
    pub(crate) fn new(
        client: &Client,
        definitions: Definitions,
        is_installing: bool,
        leading: Leading,
    ) -> Self {
        let version = "apiextensions.k8s.io/v1";
        Self {
            crds: Objects::new(client, version, "", "customresourcedefinitions"),
            definitions,
            is_installing,
            leading,
            said: BTreeSet::new(),
        }
    }

    /// For ever.
    pub(crate) async fn run(mut self) {
        loop {
            let wait = if self.leading.now() {
                let found = self.round().await;
                for problem in found.difference(&self.said) {
                    tracing::warn!("{problem}");
                }
                self.said = found;
                PERIOD
            } else {
                AGAIN
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// What is not as it should be, after what could be done about it.
    pub(crate) async fn round(&self) -> BTreeSet<String> {
        let mut problems = BTreeSet::new();
        for (name, own) in &self.definitions.0 {
            match self.one(name, own).await {
                Ok(found) => problems.extend(
                    found
                        .into_iter()
                        .map(|problem| format!("CRD `{name}`: {problem}")),
                ),
                Err(error) => {
                    problems.insert(format!("CRDs: {error}"));
                }
            }
        }
        problems
    }

    async fn one(&self, name: &str, own: &Value) -> Result<Vec<String>, AskError> {
        if let Some(there) = self.crds.get(name).await? {
            return Ok(verify(own, &there));
        }
        if !self.is_installing {
            return Ok(vec!["it is not installed".to_owned()]);
        }
        if let Written::Done(_) = self.crds.create(name, own).await? {
            tracing::info!("CRD `{name}` is installed");
        }
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::store::Store;
    use crate::lease::hold::Candidate;
    use serde_json::json;

    const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

    async fn round(store: &Store, is_installing: bool) -> BTreeSet<String> {
        let client = store.client();
        let leases = Objects::new(&client, "coordination.k8s.io/v1", "gorget", "leases");
        let (_candidate, leading) = Candidate::new(leases, "gorget", "l", "one".to_owned());
        let definitions = Definitions::read().unwrap();
        let kinds = Kinds::new(&client, definitions, is_installing, leading);
        kinds.round().await
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn what_is_missing_is_made_when_that_is_wanted_and_is_then_in_order() {
        block_on(async {
            let store = Store::default();
            assert_eq!(round(&store, false).await.len(), 5);
            assert!(store.writes().is_empty());
            assert_eq!(round(&store, true).await, BTreeSet::new());
            assert_eq!(store.writes().len(), 5);
            assert_eq!(round(&store, false).await, BTreeSet::new());
        });
    }

    #[test]
    fn a_kind_of_somebody_else_is_left_as_it_is_and_what_it_drops_is_said() {
        block_on(async {
            let store = Store::default();
            round(&store, true).await;
            let name = "kubearmorpolicies.security.kubearmor.com";
            let schema = json!({ "openAPIV3Schema": { "properties": {
                "status": { "properties": { "status": { "type": "string" } } },
            }}});
            let version = json!({
                "name": "v1", "served": true, "schema": schema, "subresources": { "status": {} },
            });
            let spec = json!({ "scope": "Namespaced", "versions": [version] });
            let object = json!({ "metadata": { "name": name }, "spec": spec });
            store.put(&format!("{CRDS}/{name}"), object);
            let before = store.writes();
            let found = round(&store, true).await;
            let found: Vec<_> = found.iter().collect();
            let dropped =
                format!("CRD `{name}`: it does not keep `conditions` and `observedGeneration`");
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(&dropped), "{found:?}");
            assert_eq!(store.writes(), before);
        });
    }

    #[test]
    fn a_kind_that_serves_another_version_or_is_nonsense_is_said_to() {
        let own = &Definitions::read().unwrap().0[0].1;
        for odd in [json!(null), json!({ "spec": { "versions": 3 } })] {
            assert_eq!(verify(own, &odd), ["it does not serve `v1`"]);
        }
        assert_eq!(verify(own, own), [""; 0]);
    }
}
