// SPDX-License-Identifier: Apache-2.0
//! Who a container is, from what containerd stores about it.
//!
//! Labels are taken as they are; name, pod and namespace are read from the labels that nerdctl, the
//! CRI plugin and users set. What Docker keeps to itself (`docker`) comes first.

use super::docker::Description;
use crate::identity::{CONTAINER_NAME, NAMESPACE, POD_NAME, POD_NAMESPACE, first, with_digest};
use crate::proto::containerd::services::containers::v1 as wire;
use gorget_model::Container;

const NERDCTL_NAME: &str = "nerdctl/name";

/// The identity of the container that is reported as `id`.
pub(super) fn identity(
    id: String,
    record: wire::Container,
    digest: Option<&str>,
    docker: Option<Description>,
) -> Container {
    let wire::Container {
        id: _,
        mut labels,
        mut image,
        spec: _,
    } = record;
    let mut name = None;
    if let Some(description) = docker {
        labels.extend(description.labels);
        image = description.image;
        name = Some(description.name).filter(|name| !name.is_empty());
    }
    let name = name.or_else(|| first(&labels, [NERDCTL_NAME, CONTAINER_NAME]));
    Container {
        name: name.unwrap_or_else(|| id.clone()),
        image: with_digest(image, digest),
        namespace: first(&labels, [POD_NAMESPACE, NAMESPACE]),
        pod: first(&labels, [POD_NAME]),
        id,
        labels,
        owner: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(labels: &[(&str, &str)]) -> Container {
        let record = wire::Container {
            labels: labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            ..wire::Container::default()
        };
        identity("4f2a".to_owned(), record, None, None)
    }

    #[test]
    fn a_container_without_labels_is_named_by_its_id() {
        let container = named(&[]);
        assert_eq!(container.name, "4f2a");
        assert_eq!(container.namespace, None);
        assert_eq!(container.pod, None);
    }

    #[test]
    fn the_kubernetes_namespace_beats_the_label_for_plain_containers() {
        let container = named(&[(NAMESPACE, "mine"), (POD_NAMESPACE, "prod")]);
        assert_eq!(container.namespace.as_deref(), Some("prod"));
        assert_eq!(
            named(&[(NAMESPACE, "mine")]).namespace.as_deref(),
            Some("mine")
        );
    }

    #[test]
    fn an_empty_label_counts_as_none() {
        let container = named(&[(NERDCTL_NAME, ""), (CONTAINER_NAME, "web"), (POD_NAME, "")]);
        assert_eq!(container.name, "web");
        assert_eq!(container.pod, None);
    }
}
