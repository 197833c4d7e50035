// SPDX-License-Identifier: Apache-2.0
//! Who a container is, from what containerd stores about it.
//!
//! Labels are taken as they are; name, pod and namespace are read from the labels that nerdctl, the
//! CRI plugin and users set. What Docker keeps to itself (`docker`) comes first. An empty label counts
//! as none.

use super::docker::Description;
use super::proto::containerd::services::containers::v1 as wire;
use gorget_model::Container;
use std::collections::BTreeMap;

const NERDCTL_NAME: &str = "nerdctl/name";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const NAMESPACE: &str = "kubearmor.io/namespace";

/// The identity of the container that is reported as `id`.
pub(super) fn of(
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
    }
}

fn first<const N: usize>(labels: &BTreeMap<String, String>, keys: [&str; N]) -> Option<String> {
    keys.into_iter()
        .filter_map(|key| labels.get(key))
        .find(|value| !value.is_empty())
        .cloned()
}

/// An image that is named by its digest already stays as it is.
fn with_digest(image: String, digest: Option<&str>) -> String {
    match digest {
        Some(digest) if names_an_image(&image) && !digest.is_empty() => format!("{image}@{digest}"),
        Some(_) | None => image,
    }
}

/// Whether the reference is one to which a digest can be added.
pub(super) fn names_an_image(image: &str) -> bool {
    !image.is_empty() && !image.contains('@') && !image.starts_with("sha256:")
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
        of("4f2a".to_owned(), record, None, None)
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

    #[test]
    fn a_digest_is_added_once() {
        let digest = Some("sha256:ab");
        for (image, expected) in [
            (
                "docker.io/library/nginx:1",
                "docker.io/library/nginx:1@sha256:ab",
            ),
            ("nginx@sha256:cd", "nginx@sha256:cd"),
            ("sha256:cd", "sha256:cd"),
            ("", ""),
        ] {
            assert_eq!(with_digest(image.to_owned(), digest), expected);
        }
        assert_eq!(with_digest("nginx:1".to_owned(), None), "nginx:1");
    }
}
