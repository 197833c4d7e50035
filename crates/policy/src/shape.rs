// SPDX-License-Identifier: Apache-2.0
//! What documents look like: which fields a mapping may have, and what each may hold.
//!
//! The tables are in `tables`. The readers learn the known names, the required ones, ranges and the
//! words of a choice from them, and `schema` renders them as CRDs, so the two cannot disagree about
//! any of these. What a string means (a path, a pattern, a domain) only its reader knows; the schema
//! is at most less strict about it.

/// What a mapping may contain.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) own: &'static [FieldShape],
    /// What it has in common with others.
    pub(crate) shared: &'static [FieldShape],
    /// Other names are no error: they are for other programs.
    pub(crate) open: bool,
}

/// A field of a mapping.
#[derive(Debug)]
pub(crate) struct FieldShape {
    pub(crate) name: &'static str,
    pub(crate) of: Type,
    pub(crate) required: bool,
    /// KubeArmor's CRD says so. The reader takes `null` for absent everywhere.
    pub(crate) nullable: bool,
    pub(crate) description: &'static str,
}

/// What a field may hold.
#[derive(Debug)]
pub(crate) enum Type {
    /// Any string.
    Text,
    /// A path of anything but a directory.
    Path,
    /// A path with a slash at its end.
    Directory,
    /// Either.
    PathOrDirectory,
    /// The last component of a path.
    FileName,
    /// Names with commas between them.
    Names(fn() -> Vec<String>),
    /// One of these.
    Word(fn() -> Vec<&'static str>),
    /// A number of bytes: `10MB`.
    Bytes,
    /// A whole number in this range.
    Integer { least: u32, most: u32 },
    /// `true` or `false`.
    Flag,
    /// A list of at most so many strings.
    Texts { most: Option<usize> },
    /// A list of these words.
    WordList(fn() -> Vec<&'static str>),
    /// A mapping.
    Mapping(&'static Shape),
    /// A list of mappings.
    Mappings(&'static Shape),
    /// Names and values, all strings.
    Labels,
}

/// A word of a choice, and what it stands for.
pub(crate) type Words<T> = &'static [(&'static str, T)];

/// The words alone.
pub(crate) fn words<T>(choice: Words<T>) -> Vec<&'static str> {
    choice.iter().map(|(word, _)| *word).collect()
}

impl Shape {
    pub(crate) const fn new(own: &'static [FieldShape]) -> Self {
        Self {
            own,
            shared: &[],
            open: false,
        }
    }

    pub(crate) const fn and(mut self, shared: &'static [FieldShape]) -> Self {
        self.shared = shared;
        self
    }

    pub(crate) const fn open(mut self) -> Self {
        self.open = true;
        self
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = &'static FieldShape> {
        self.own.iter().chain(self.shared)
    }

    pub(crate) fn field(&self, name: &str) -> Option<&'static FieldShape> {
        self.fields().find(|field| field.name == name)
    }
}

impl FieldShape {
    pub(crate) const fn new(name: &'static str, of: Type, description: &'static str) -> Self {
        Self {
            name,
            of,
            required: false,
            nullable: false,
            description,
        }
    }

    pub(crate) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(crate) const fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }

    /// The shape of the mapping, or of the list's mappings, that the field holds.
    pub(crate) fn mapping(&self) -> Option<&'static Shape> {
        match self.of {
            Type::Mapping(shape) | Type::Mappings(shape) => Some(shape),
            Type::Text
            | Type::Path
            | Type::Directory
            | Type::PathOrDirectory
            | Type::FileName
            | Type::Names(_)
            | Type::Word(_)
            | Type::Bytes
            | Type::Integer { .. }
            | Type::Flag
            | Type::Texts { .. }
            | Type::WordList(_)
            | Type::Labels => None,
        }
    }
}
