// SPDX-License-Identifier: Apache-2.0
//! Paths, directories and file names as policies write them.
//!
//! Anything accepted here is in the form in which the kernel reports it, so comparing bytes is
//! enough: absolute, single slashes, no `.` and `..`, no NUL. Directories end with a slash, paths do
//! not.
//!
//! COMPAT: KubeArmor cuts paths at 200 bytes and directories at 64; here the kernel's own limit counts.

use crate::problem::quote;

/// What the kernel accepts as a path (`PATH_MAX`).
pub(crate) const MOST_PATH: usize = 4_096;

/// What the kernel accepts as a file name (`NAME_MAX`).
pub(crate) const MOST_NAME: usize = 255;

/// Why something is not a path, directory or name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("is empty")]
    Empty,
    #[error("does not begin with `/`")]
    Relative,
    #[error("ends with `/`")]
    TrailingSlash,
    #[error("does not end with `/`")]
    NoTrailingSlash,
    #[error("has a `.` or `..` component")]
    Dots,
    #[error("contains a NUL byte")]
    Nul,
    #[error("is longer than {MOST_PATH} bytes")]
    LongPath,
    #[error("is longer than a file name can be, {MOST_NAME} bytes")]
    LongName,
    #[error("contains `/`")]
    NameWithSlash,
}

impl PathError {
    /// What to write instead of `text`.
    pub(crate) fn help(self, text: &str) -> Option<String> {
        match self {
            Self::Relative => Some("write the absolute path".to_owned()),
            Self::TrailingSlash => Some("a directory goes into `dir`".to_owned()),
            Self::NoTrailingSlash => Some(format!("write {}", quote(&format!("{text}/")))),
            Self::Dots => Some("the kernel reports paths without them".to_owned()),
            Self::NameWithSlash => Some("a path goes into `path`".to_owned()),
            Self::Empty | Self::Nul | Self::LongPath | Self::LongName => None,
        }
    }
}

/// A path of anything but the root.
pub(crate) fn path(text: &str) -> Result<String, PathError> {
    let normal = normal(text)?;
    if text.ends_with('/') {
        return Err(PathError::TrailingSlash);
    }
    Ok(normal)
}

/// A directory, also the root.
pub(crate) fn directory(text: &str) -> Result<String, PathError> {
    let mut normal = normal(text)?;
    if !text.ends_with('/') {
        return Err(PathError::NoTrailingSlash);
    }
    if !normal.ends_with('/') {
        normal.push('/');
    }
    Ok(normal)
}

/// The last component of a path.
pub(crate) fn name(text: &str) -> Result<String, PathError> {
    if text.is_empty() {
        return Err(PathError::Empty);
    }
    if text.contains('/') {
        return Err(PathError::NameWithSlash);
    }
    check_component(text)?;
    if text.len() > MOST_NAME {
        return Err(PathError::LongName);
    }
    Ok(text.to_owned())
}

/// Without doubled and trailing slashes.
fn normal(text: &str) -> Result<String, PathError> {
    if text.is_empty() {
        return Err(PathError::Empty);
    }
    if !text.starts_with('/') {
        return Err(PathError::Relative);
    }
    let mut normal = String::new();
    for component in text.split('/').filter(|component| !component.is_empty()) {
        check_component(component)?;
        normal.push('/');
        normal.push_str(component);
    }
    if normal.is_empty() {
        normal.push('/');
    }
    if normal.len() > MOST_PATH {
        return Err(PathError::LongPath);
    }
    Ok(normal)
}

fn check_component(component: &str) -> Result<(), PathError> {
    if matches!(component, "." | "..") {
        return Err(PathError::Dots);
    }
    if component.contains('\0') {
        return Err(PathError::Nul);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_are_normalised() {
        assert_eq!(path("//usr///bin/ls"), Ok("/usr/bin/ls".to_owned()));
        assert_eq!(directory("//usr//bin//"), Ok("/usr/bin/".to_owned()));
        assert_eq!(directory("/"), Ok("/".to_owned()));
        assert_eq!(directory("///"), Ok("/".to_owned()));
    }

    #[test]
    fn a_path_is_absolute_and_names_something() {
        assert_eq!(path(""), Err(PathError::Empty));
        assert_eq!(path("bin/ls"), Err(PathError::Relative));
        assert_eq!(path("/"), Err(PathError::TrailingSlash));
        assert_eq!(path("/bin/"), Err(PathError::TrailingSlash));
    }

    #[test]
    fn a_directory_ends_with_a_slash() {
        assert_eq!(directory(""), Err(PathError::Empty));
        assert_eq!(directory("etc/"), Err(PathError::Relative));
        assert_eq!(directory("/etc"), Err(PathError::NoTrailingSlash));
        let help = PathError::NoTrailingSlash.help("/etc");
        assert_eq!(help.as_deref(), Some("write `/etc/`"));
    }

    #[test]
    fn what_the_kernel_never_reports_is_refused() {
        for text in ["/a/../b", "/./a", "/a/..", "/.."] {
            assert_eq!(path(text), Err(PathError::Dots), "{text}");
        }
        assert_eq!(directory("/a/../"), Err(PathError::Dots));
        assert_eq!(path("/a\0b"), Err(PathError::Nul));
        assert_eq!(path("/..a/.b"), Ok("/..a/.b".to_owned()));
    }

    #[test]
    fn a_path_may_have_4096_bytes() {
        let longest = format!("/{}", "x".repeat(MOST_PATH - 1));
        assert_eq!(path(&longest), Ok(longest.clone()));
        assert_eq!(path(&format!("{longest}x")), Err(PathError::LongPath));
        assert_eq!(path(&format!("////{longest}")), Ok(longest));
    }

    #[test]
    fn a_name_is_one_component() {
        assert_eq!(name("ls"), Ok("ls".to_owned()));
        assert_eq!(name(""), Err(PathError::Empty));
        assert_eq!(name("bin/ls"), Err(PathError::NameWithSlash));
        assert_eq!(name(".."), Err(PathError::Dots));
        assert_eq!(name(&"x".repeat(255)).map(|name| name.len()), Ok(255));
        assert_eq!(name(&"x".repeat(256)), Err(PathError::LongName));
    }
}
