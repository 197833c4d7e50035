// SPDX-License-Identifier: Apache-2.0
//! What is the same in all runtimes about who a container is.
//!
//! An empty label counts as none.

use std::collections::BTreeMap;

/// Labels that Kubernetes' runtimes set.
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The label with which people put a plain container into a namespace.
pub(crate) const NAMESPACE: &str = "kubearmor.io/namespace";

/// The value of the first of the labels that has one.
pub(crate) fn first<const N: usize>(
    labels: &BTreeMap<String, String>,
    keys: [&str; N],
) -> Option<String> {
    keys.into_iter()
        .filter_map(|key| labels.get(key))
        .find(|value| !value.is_empty())
        .cloned()
}

/// An image that is named by its digest already stays as it is.
pub(crate) fn with_digest(image: String, digest: Option<&str>) -> String {
    match digest {
        Some(digest) if names_an_image(&image) && !digest.is_empty() => format!("{image}@{digest}"),
        Some(_) | None => image,
    }
}

/// Whether the reference is one to which a digest can be added.
pub(crate) fn names_an_image(image: &str) -> bool {
    !image.is_empty() && !image.contains('@') && !image.starts_with("sha256:")
}

#[cfg(test)]
mod tests {
    use super::*;

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
