// SPDX-License-Identifier: Apache-2.0
//! Names of images, as people write them and as runtimes report them.
//!
//! The same image is `nginx:1` for Docker and `docker.io/library/nginx:1` for containerd and Podman, so
//! both are completed to the long form before they are compared. What a selector leaves out, a tag or a
//! digest, may be anything.

use std::fmt;

/// An image, or all of a name, or all of a name and a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference {
    /// With registry.
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl ImageReference {
    /// `None` when there is no name, or a part is empty or has white space in it.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash belongs to the registry's port.
        let (path, last) = match rest.rsplit_once('/') {
            Some((path, last)) => (Some(path), last),
            None => (None, rest),
        };
        let (last, tag) = match last.split_once(':') {
            Some((last, tag)) => (last, Some(tag)),
            None => (last, None),
        };
        let short = match path {
            Some(path) => format!("{path}/{last}"),
            None => last.to_owned(),
        };
        let is_part = |part: &str| !part.is_empty() && !part.contains(char::is_whitespace);
        let parts = [Some(last), tag, digest].into_iter().flatten();
        let whole = parts.chain(short.split('/')).all(is_part);
        whole.then(|| Self {
            name: with_registry(&short),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// Whether this is what the selector names.
    pub fn covers(&self, image: &str) -> bool {
        Self::new(image).is_some_and(|image| {
            let Self { name, tag, digest } = self;
            *name == image.name
                && (tag.is_none() || *tag == image.tag)
                && (digest.is_none() || *digest == image.digest)
        })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// A first part with a dot or a port, or `localhost`, is a registry.
fn with_registry(name: &str) -> String {
    match name.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(selector: &str, image: &str) -> bool {
        ImageReference::new(selector).unwrap().covers(image)
    }

    #[test]
    fn what_is_left_out_may_be_anything() {
        let whole = "docker.io/library/nginx:1@sha256:ab";
        for selector in [
            "nginx",
            "nginx:1",
            "nginx@sha256:ab",
            "nginx:1@sha256:ab",
            whole,
        ] {
            assert!(covers(selector, whole), "{selector}");
        }
        for other in [
            "nginx:2",
            "nginx@sha256:cd",
            "nginx-2",
            "library/ngin",
            "me/nginx",
        ] {
            assert!(!covers(other, whole), "{other}");
        }
        assert!(!covers("nginx:1", "nginx"));
        assert!(!covers("nginx@sha256:ab", "nginx:1"));
    }

    #[test]
    fn one_image_has_several_names() {
        for name in ["nginx", "library/nginx", "docker.io/library/nginx"] {
            for other in ["nginx:1", "docker.io/library/nginx:1"] {
                assert!(covers(name, other), "{name} {other}");
            }
        }
        assert!(covers("shop/web", "docker.io/shop/web:3"));
        assert!(!covers("shop/web", "localhost/shop/web:3"));
        assert!(covers("localhost/web", "localhost/web:3"));
        assert!(covers("r.test:5000/a/web", "r.test:5000/a/web:3"));
        assert!(!covers("r.test:5000/web", "r.test/web:5000"));
    }

    #[test]
    fn what_names_no_image_is_none() {
        for text in [
            "",
            ":1",
            "@sha256:ab",
            "a:",
            "a@",
            "a//b",
            "/a",
            "a/",
            "a b",
            "a: 1",
        ] {
            assert_eq!(ImageReference::new(text), None, "{text}");
        }
        assert!(!covers("nginx", ""));
    }
}
