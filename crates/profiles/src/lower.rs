// SPDX-License-Identifier: Apache-2.0
//! From the policies of a workload to the text of its profile.
//!
//! AppArmor judges a task by its profile, and a task gets another profile by executing something. So
//! each class of subjects (the programs that the same `fromSource` conditions name) has a profile, and
//! every rule that lets something be executed names the profile of what is executed: what a source may
//! do is not inherited by what it executes. The container starts in the profile of its first program.

use crate::carve::{Trie, carve};
use crate::cut::{Cut, LeftOut, cut};
use crate::glob::{Glob, TooMany};
use crate::limits::{Limit, about, of_policies, of_rule};
use crate::native;
use crate::objects::Objects;
use crate::text;
use gorget_engine::{
    Automaton, CompileError, Listing, Listings, Named, PolicySet, RuleInfo, Ruleset, Variant,
    compile, literal_paths,
};
use gorget_model::{Category, Mode, Outcome};
use std::collections::{BTreeMap, BTreeSet};

/// In the first line of every profile of ours.
pub const MARKER: &str = "# Managed by Gorget.";

/// A profile can name this many others to go on in: what AppArmor's parser before 4 has room for.
const MOST_OTHERS: usize = 12;

/// Of the programs' names, in the name of a profile.
const LONGEST_WORDS: usize = 40;

/// FNV-1a, to tell names apart; nobody gains by making two alike.
const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

/// What is to be confined, and by what.
#[derive(Clone, Copy, Debug)]
pub struct Confined<'a> {
    /// Name of the profile.
    pub name: &'a str,
    /// Everything that decides for the workload.
    pub set: &'a PolicySet,
    /// Whether it is enforced.
    pub mode: Mode,
    /// The path of the workload's first program, where it is known: it starts in the profile's main part.
    pub entry: Option<&'a [u8]>,
    /// Names of the parts that programs may still run in: those that no rule is about any more are about
    /// all other programs.
    pub parts: &'a [String],
    /// AppArmor tells what is denied or audited. Without it, only what no rule names is told of.
    pub log: bool,
}

/// A profile as text, and what it does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// For `apparmor_parser`.
    pub text: String,
    /// What the policies ask for and the profile does not do.
    pub limits: Vec<Limit>,
    /// Which program runs in which part.
    pub parts: Parts,
}

/// Which program runs in which part of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    sources: Automaton,
    /// By source class, with the outer name in front.
    names: Vec<String>,
}

impl Parts {
    /// The full name of the profile that a program gets.
    pub fn of(&self, image: &[u8]) -> &str {
        let name = self.names.get(self.sources.run(image) as usize);
        name.map_or("", String::as_str)
    }
}

/// The names of a profile's parts, from its text.
pub fn part_names(text: &str) -> Vec<String> {
    let part = |line: &str| {
        let rest = line.strip_prefix("  profile ")?;
        Some(rest.split_once(' ')?.0.to_owned())
    };
    text.lines().filter_map(part).collect()
}

/// Writes the profile of a workload.
///
/// # Errors
///
/// As [`compile`].
pub fn profile(confined: &Confined<'_>) -> Result<Profile, CompileError> {
    let nothing = PolicySet::new(Vec::new(), confined.set.postures);
    let set = match confined.mode {
        Mode::Enforced | Mode::Audited => confined.set,
        Mode::Disabled => &nothing,
    };
    let lowering = Lowering {
        confined,
        set,
        rules: compile(set)?,
        listings: Listings::new(set)?,
    };
    Ok(lowering.run())
}

/// Who does something to a file: its owner, or somebody else.
const WHO: [u8; 2] = [Variant::OWNER, 0];
const OWNER: &str = "owner ";
const OTHER: &str = "other ";

const READ: u8 = 1;
const WRITE: u8 = 2;
const MAP: u8 = 4;

/// Rules about files: by pattern, what is said of the owner and of others. Denials come last.
type FileRules = BTreeMap<(bool, bool, String), [u8; 2]>;

/// What becomes of who executes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Execution {
    /// It gets this profile, by number.
    In(usize),
    Denied,
}

/// By what becomes of it, whether it is audited, and which programs: for the owner, for others.
type ExecRules = BTreeMap<(Execution, bool, Glob), [bool; 2]>;

/// Classes of subjects that are treated alike.
struct Class {
    /// One of them.
    source: u32,
    /// What distinguishes it.
    behaviour: Behaviour,
    /// Which programs these are, for people.
    who: String,
    /// Of its profile, unless it is the outer one.
    name: String,
}

#[derive(PartialEq)]
struct Behaviour {
    listings: Vec<Listing>,
    lines: Vec<String>,
    guarded: Vec<(Vec<u8>, usize)>,
}

/// Classes of subjects as profiles; the first is where the container starts.
struct Classes {
    all: Vec<Class>,
    /// By source class.
    of_source: Vec<usize>,
    /// Some got the profile of others.
    too_many: bool,
}

struct Lowering<'a> {
    confined: &'a Confined<'a>,
    set: &'a PolicySet,
    rules: Ruleset,
    listings: Listings,
}

impl Lowering<'_> {
    fn run(&self) -> Profile {
        let classes = self.classes();
        let mut limits = of_policies(self.set, &mut native::problem);
        if classes.too_many {
            let why = "a profile has room for 12 groups of programs that rules name as sources";
            let mut policies = self.set.policies.iter();
            limits.extend(
                policies
                    .by_ref()
                    .filter(|policy| policy.rules.iter().any(|rule| !rule.sources.is_empty()))
                    .map(|policy| about(&policy.qualified_name(), "fromSource", why)),
            );
        }
        let mut text = format!(
            "{MARKER} Changes are lost: they belong into policies.\n{}",
            self.head(self.confined.name)
        );
        let mut children = String::new();
        for (number, class) in classes.all.iter().enumerate() {
            let body = self.body(number, class, &classes, &mut limits);
            if number == 0 {
                text.push_str(&indented(&body, 2));
            } else {
                children.push_str(&self.part(&class.who, &class.name, &body));
            }
        }
        let others = classes.of_source.first().copied().unwrap_or_default();
        for old in self.confined.parts {
            let known = classes.all.iter().any(|class| class.name == *old);
            if let Some(class) = classes.all.get(others).filter(|_| !known) {
                let body = self.body(others, class, &classes, &mut limits);
                children.push_str(&self.part("No rule is about them any more.", old, &body));
            }
        }
        text.push_str(&children);
        text.push_str("}\n");
        limits.sort();
        limits.dedup();
        let names = classes.of_source.iter();
        let names = names
            .map(|number| self.full_name(*number, &classes))
            .collect();
        let parts = Parts {
            sources: self.rules.sources().clone(),
            names,
        };
        Profile {
            text,
            limits,
            parts,
        }
    }

    fn part(&self, who: &str, name: &str, body: &str) -> String {
        let (head, body) = (indented(&self.head(name), 2), indented(body, 4));
        format!("\n  # {who}\n{head}{body}  }}\n")
    }

    fn head(&self, name: &str) -> String {
        format!("profile {name} flags=(attach_disconnected,mediate_deleted) {{\n")
    }

    /// Which programs have a profile, for people.
    fn who(&self, number: usize, classes: &Classes) -> String {
        let shown = |named: &Named| {
            let (path, rest) = match named {
                Named::Path(path) => (path.clone(), ""),
                Named::Directory { dir, recursive } if *recursive => (dir.clone(), "/**"),
                Named::Directory { dir, .. } => (dir.clone(), "/*"),
                Named::Pattern(_) => return None,
            };
            let below: &[u8] = if rest.is_empty() { b"" } else { b"/\x01" };
            let inside = [path.as_slice(), below].concat();
            let ours = classes.of_image(&self.rules, &inside) == number;
            let name = String::from_utf8_lossy(&path).into_owned();
            let plain = !name.chars().any(char::is_control);
            (ours && plain).then(|| format!("{name}{rest}"))
        };
        let names: Vec<String> = self.listings.sources().iter().filter_map(shown).collect();
        match names.as_slice() {
            [] if classes.of_source.first() == Some(&number) => "All other programs.".to_owned(),
            [] => format!("Some programs, {number}."),
            _ => names.join(" "),
        }
    }

    fn listing(&self, category: Category, source: u32, bits: u8) -> Listing {
        let variant = Variant::from_bits(bits);
        let mut listing = self
            .listings
            .listing(category, source, variant)
            .cloned()
            .unwrap_or(Listing {
                steps: Vec::new(),
                unlisted: Outcome::Pass,
            });
        if self.confined.mode == Mode::Audited {
            let all = listing.steps.iter_mut().map(|step| &mut step.outcome);
            for outcome in all.chain([&mut listing.unlisted]) {
                if *outcome == Outcome::Block {
                    *outcome = Outcome::Audit;
                }
            }
        }
        listing
    }

    fn objects(&self, source: u32) -> Objects<'_> {
        Objects {
            rules: &self.rules,
            source,
            audited: self.confined.mode == Mode::Audited,
            log: self.confined.log,
        }
    }

    fn classes(&self) -> Classes {
        let main = self
            .confined
            .entry
            .map_or(0, |e| self.rules.sources().run(e));
        let mut classes = Classes {
            all: Vec::new(),
            of_source: vec![0; self.rules.source_classes() as usize],
            too_many: false,
        };
        // Class 0 has a place in any case.
        let rest = (0..self.rules.source_classes()).filter(|source| *source != main);
        for source in [main].into_iter().chain(rest) {
            let behaviour = self.behaviour(source);
            let known = classes.all.iter().position(|c| c.behaviour == behaviour);
            let number = known.unwrap_or_else(|| {
                if classes.all.len() > MOST_OTHERS {
                    classes.too_many = true;
                    return classes.of_source.first().copied().unwrap_or_default();
                }
                classes.all.push(Class {
                    source,
                    behaviour,
                    who: String::new(),
                    name: String::new(),
                });
                classes.all.len() - 1
            });
            if let Some(of) = classes.of_source.get_mut(source as usize) {
                *of = number;
            }
        }
        let who: Vec<String> = (0..classes.all.len())
            .map(|number| self.who(number, &classes))
            .collect();
        for (class, who) in classes.all.iter_mut().zip(who) {
            class.name = child_name(&who);
            class.who = who;
        }
        classes
    }

    fn behaviour(&self, source: u32) -> Behaviour {
        let of = |category, variants: &[u8]| -> Vec<Listing> {
            let variants = variants.iter();
            variants
                .map(|bits| unnamed(self.listing(category, source, *bits)))
                .collect()
        };
        let file: Vec<u8> = WHO
            .iter()
            .flat_map(|who| [*who, who | Variant::WRITE])
            .collect();
        let objects = self.objects(source);
        Behaviour {
            listings: [of(Category::Process, &WHO), of(Category::File, &file)].concat(),
            lines: [objects.capabilities(), objects.network()].concat(),
            guarded: self.guarded(source),
        }
    }

    /// Directories that must stay where they are though they may be written to, for whom.
    fn guarded(&self, source: u32) -> Vec<(Vec<u8>, usize)> {
        if self.confined.mode == Mode::Audited {
            return Vec::new();
        }
        let mut directories: BTreeSet<Vec<u8>> = literal_paths(&self.set.policies);
        directories.extend(self.set.aliases.0.values().cloned());
        let above: Vec<Vec<u8>> = directories
            .iter()
            .flat_map(|path| {
                let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
                slashes.filter_map(|(at, _)| path.get(..at.max(1)).map(<[u8]>::to_vec))
            })
            .collect();
        directories.extend(above);
        let table = self.rules.decisions(Category::File);
        let mut guarded = Vec::new();
        for directory in directories {
            let row = self.rules.objects(Category::File).run(&directory);
            let blocks = |bits| {
                let decision = table.decision(row, source, Variant::from_bits(bits));
                table.settle(decision, |_| true).outcome == Outcome::Block
            };
            for (number, who) in WHO.iter().enumerate() {
                let written = who | Variant::WRITE;
                if blocks(written | Variant::TREE) && !blocks(written) {
                    guarded.push((directory.clone(), number));
                }
            }
        }
        guarded
    }

    /// What is between the braces of a profile.
    fn body(&self, number: usize, class: &Class, all: &Classes, limits: &mut Vec<Limit>) -> String {
        let objects = self.objects(class.source);
        let mut text = String::from("# What no rule is about.\n");
        for what in [
            "mount",
            "remount",
            "umount",
            "pivot_root",
            "ptrace",
            "signal",
            "dbus",
        ] {
            text.push_str(what);
            text.push_str(",\n");
        }
        // What local sockets do. The line lets them be made, too, whatever is said of sockets.
        if objects.has_local_sockets() {
            text.push_str("unix,\n");
        }
        let lines = |text: &mut String, title: &str, lines: &[String]| {
            if !lines.is_empty() {
                text.push_str(&format!("# {title}\n{}\n", lines.join("\n")));
            }
        };
        lines(&mut text, "Capabilities.", &objects.capabilities());
        lines(&mut text, "Sockets.", &objects.network());
        let info = |id: gorget_model::RuleId| self.rules.rules().get(id.0 as usize);
        for (rule, why) in objects.unsaid() {
            limits.extend(info(rule).map(|info| of_rule(info, "protocol", why)));
        }
        let mut left_out = Vec::new();
        let files = self.files(number, class, all, &mut left_out);
        lines(&mut text, "Files.", &files);
        let programs = self.programs(number, class, all, &mut left_out);
        lines(&mut text, "Programs.", &programs);
        limits.extend(
            left_out
                .into_iter()
                .filter_map(|(rule, why)| Some(left_out_limit(info(rule)?, why))),
        );
        if self.confined.mode == Mode::Enforced {
            lines(
                &mut text,
                "In AppArmor's own language.",
                &native::lines(self.set),
            );
        }
        text
    }

    fn files(
        &self,
        number: usize,
        class: &Class,
        all: &Classes,
        left_out: &mut Vec<(gorget_model::RuleId, LeftOut)>,
    ) -> Vec<String> {
        let mut rules = FileRules::new();
        let log = self.confined.log;
        for (number, who) in WHO.into_iter().enumerate() {
            for (permission, bits) in [(READ, who), (WRITE, who | Variant::WRITE)] {
                let listing = self.listing(Category::File, class.source, bits);
                let Cut {
                    allowed,
                    denied,
                    left_out: out,
                } = cut(&listing, log);
                left_out.extend(out);
                for allowed in allowed {
                    let key = (false, allowed.audited, text::pattern(&allowed.glob));
                    add(&mut rules, key, number, permission);
                }
                for glob in denied {
                    let key = (true, log, text::pattern(&glob));
                    add(&mut rules, key, number, permission);
                }
            }
        }
        for image in self.own_images(number, class, all) {
            let key = (false, false, text::file(&image));
            (0..WHO.len()).for_each(|who| add(&mut rules, key.clone(), who, READ | MAP));
        }
        for (directory, number) in &class.behaviour.guarded {
            let key = (true, log, text::directory(directory));
            add(&mut rules, key, *number, WRITE);
        }
        for program in self.never_run() {
            let key = (true, log, text::file(&program));
            (0..WHO.len()).for_each(|number| add(&mut rules, key.clone(), number, MAP));
        }
        join_root(&mut rules);
        // Locking is no access, and neither is mapping what may be read.
        let mut lines = vec!["/{,**} mk,".to_owned()];
        for ((deny, audit, pattern), [owner, other]) in rules {
            let both = owner & other;
            let of = [("", both), (OWNER, owner & !both), (OTHER, other & !both)];
            for (who, permissions) in of.into_iter().filter(|(_, p)| *p != 0) {
                let audit = if audit { "audit " } else { "" };
                let deny = if deny { "deny " } else { "" };
                let permissions = letters(permissions);
                lines.push(format!("{audit}{deny}{who}{pattern} {permissions},"));
            }
        }
        lines
    }

    /// The programs that are known to begin in a part of the profile, where not everything can be read:
    /// the kernel reads a program as who will run it.
    fn own_images(&self, number: usize, class: &Class, all: &Classes) -> Vec<Glob> {
        let free =
            |who: &u8| self.listing(Category::File, class.source, *who).unlisted != Outcome::Block;
        if WHO.iter().all(free) {
            return Vec::new();
        }
        let sources = self.listings.sources().iter();
        let paths = sources.filter_map(|named| match named {
            Named::Path(path) => Some(path.as_slice()),
            Named::Directory { .. } | Named::Pattern(_) => None,
        });
        let entry = self.confined.entry.filter(|_| number == 0);
        let ours = paths.filter(|path| all.of_image(&self.rules, path) == number);
        ours.chain(entry).map(Glob::literal).collect()
    }

    /// Programs that nobody may run and that are named, so that they cannot be libraries: they must not
    /// be mapped either, or a dynamic loader could run them.
    fn never_run(&self) -> Vec<Glob> {
        let mut never: Option<BTreeSet<Glob>> = None;
        for source in 0..self.rules.source_classes() {
            for who in WHO {
                let listing = self.listing(Category::Process, source, who);
                let blocked = listing
                    .steps
                    .iter()
                    .filter(|step| step.outcome == Outcome::Block)
                    .filter_map(|step| match &step.named {
                        Named::Path(path) => Some(Glob::literal(path)),
                        Named::Directory { .. } | Named::Pattern(_) => None,
                    });
                let blocked: BTreeSet<Glob> = blocked.collect();
                never = Some(match never {
                    Some(before) => before.intersection(&blocked).cloned().collect(),
                    None => blocked,
                });
            }
        }
        // Which step decides is known for paths only: those of the other half come first.
        let decided = |glob: &Glob| {
            let path = glob.as_literal().unwrap_or_default();
            (0..self.rules.source_classes()).all(|source| {
                WHO.iter().all(|who| {
                    let steps = self.listing(Category::Process, source, *who).steps;
                    let mut steps = steps.iter();
                    let first = steps.find(|step| step.contains(&path) != Some(false));
                    first.is_some_and(|step| {
                        step.contains(&path) == Some(true) && step.outcome == Outcome::Block
                    })
                })
            })
        };
        never.into_iter().flatten().filter(decided).collect()
    }

    fn programs(
        &self,
        number: usize,
        class: &Class,
        all: &Classes,
        left_out: &mut Vec<(gorget_model::RuleId, LeftOut)>,
    ) -> Vec<String> {
        let mut rules = ExecRules::new();
        let log = self.confined.log;
        for (who_number, who) in WHO.into_iter().enumerate() {
            let listing = self.listing(Category::Process, class.source, who);
            let Cut {
                allowed,
                denied,
                left_out: out,
            } = cut(&listing, log);
            left_out.extend(out);
            let mut set = |execution, audit, glob: &Glob| {
                // The root is not executed.
                if glob.0.len() == 1 {
                    return;
                }
                let key = (execution, audit, glob.clone());
                if let Some(said) = rules.entry(key).or_insert([false; 2]).get_mut(who_number) {
                    *said = true;
                }
            };
            for allowed in &allowed {
                for (profile, globs) in self.by_profile(&allowed.glob, all) {
                    globs
                        .iter()
                        .for_each(|glob| set(Execution::In(profile), allowed.audited, glob));
                }
            }
            denied
                .iter()
                .for_each(|glob| set(Execution::Denied, log, glob));
        }
        audit_paths(&mut rules);
        let mut lines = Vec::new();
        for ((execution, audit, glob), who) in rules {
            let pattern = text::file(&glob);
            let audit = if audit { "audit " } else { "" };
            let who = match who {
                [true, true] => "",
                [true, false] => OWNER,
                [false, _] => OTHER,
            };
            lines.push(match execution {
                Execution::Denied => format!("{audit}deny {who}{pattern} x,"),
                Execution::In(profile) if profile == number => {
                    format!("{audit}{who}{pattern} ix,")
                }
                Execution::In(profile) => {
                    let name = self.full_name(profile, all);
                    format!("{audit}{who}{pattern} px -> {name},")
                }
            });
        }
        lines
    }

    fn full_name(&self, profile: usize, all: &Classes) -> String {
        let name = self.confined.name;
        match profile {
            0 => name.to_owned(),
            _ => format!("{name}//{}", all.all.get(profile).map_or("", |c| &c.name)),
        }
    }

    /// The programs that a pattern matches, by the profile that they run in. A rule for one path wins
    /// over patterns, so patterns need not leave out what has a rule of its own.
    fn by_profile(&self, glob: &Glob, all: &Classes) -> Vec<(usize, Vec<Glob>)> {
        if let Some(path) = glob.as_literal() {
            return vec![(all.of_image(&self.rules, &path), vec![glob.clone()])];
        }
        let sources = self.listings.sources();
        let trie = Trie::of(sources.iter().filter(|n| !matches!(n, Named::Path(_))));
        let alone = |profile: usize| {
            let paths = sources.iter().filter_map(|named| match named {
                Named::Path(path) => Some(path),
                Named::Directory { .. } | Named::Pattern(_) => None,
            });
            let named = paths.filter(move |path| {
                all.of_image(&self.rules, path) == profile && glob.matches(path)
            });
            named.map(|path| Glob::literal(path))
        };
        let mut parts = Vec::new();
        for profile in 0..all.all.len() {
            let ours = |path: &[u8]| all.of_image(&self.rules, path) == profile;
            let mut globs: Vec<Glob> = alone(profile).collect();
            match carve(std::slice::from_ref(glob), &trie, &ours) {
                // What is left of a pattern can be one path.
                Ok(part) => globs.extend(
                    part.into_iter()
                        .filter(|glob| glob.as_literal().is_none_or(|path| ours(&path))),
                ),
                // A directory's name is too long, and it has the profile of all others.
                Err(TooMany) if all.of_source.first() == Some(&profile) => globs.push(glob.clone()),
                Err(TooMany) => {}
            }
            parts.push((profile, globs));
        }
        parts
    }
}

impl Classes {
    fn of_image(&self, rules: &Ruleset, path: &[u8]) -> usize {
        let source = rules.sources().run(path);
        let known = self.of_source.get(source as usize);
        known.copied().unwrap_or_default()
    }
}

/// A rule for one path wins over patterns, also over whether they audit.
fn audit_paths(rules: &mut ExecRules) {
    let audited: Vec<(Execution, Glob, [bool; 2])> = rules
        .iter()
        .filter(|((execution, audit, _), _)| *audit && *execution != Execution::Denied)
        .map(|((execution, _, glob), who)| (*execution, glob.clone(), *who))
        .collect();
    if audited.is_empty() {
        return;
    }
    for (key, who) in std::mem::take(rules) {
        let (execution, audit, glob) = key;
        let path = glob.as_literal().filter(|_| !audit);
        let covers = |(other, pattern, others): &(Execution, Glob, [bool; 2])| {
            let common = who.iter().zip(others).any(|(a, b)| *a && *b);
            let path = path.as_ref();
            *other == execution && common && path.is_some_and(|path| pattern.matches(path))
        };
        let audit = audit || audited.iter().any(covers);
        let said = rules.entry((execution, audit, glob)).or_default();
        for (said, who) in said.iter_mut().zip(who) {
            *said |= who;
        }
    }
}

/// The name of a profile in its parent: readable, and the same as long as it is about the same programs,
/// so that who runs in it is found again when policies change.
fn child_name(who: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() { c } else { '_' }
    };
    let words = who.trim_matches('/').chars().map(plain);
    let words: String = words.take(LONGEST_WORDS).collect();
    let hash = who.bytes().fold(FNV_OFFSET, |hash: u32, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(FNV_PRIME)
    });
    format!("{words}-{hash:08x}")
}

/// Without the rules' names, which make no difference.
fn unnamed(mut listing: Listing) -> Listing {
    for step in &mut listing.steps {
        step.rule = gorget_model::RuleId(0);
    }
    listing
}

fn add(rules: &mut FileRules, key: (bool, bool, String), who: usize, permission: u8) {
    if let Some(said) = rules.entry(key).or_default().get_mut(who) {
        *said |= permission;
    }
}

/// `/` and `/**` as one rule where both say the same.
fn join_root(rules: &mut FileRules) {
    for deny in [false, true] {
        for audit in [false, true] {
            let key = |pattern: &str| (deny, audit, pattern.to_owned());
            let (root, below) = (rules.get(&key("/")), rules.get(&key("/**")));
            if let (Some(root), Some(below)) = (root, below)
                && root == below
            {
                let said = *root;
                rules.remove(&key("/"));
                rules.remove(&key("/**"));
                rules.insert(key("/{,**}"), said);
            }
        }
    }
}

/// Whoever may write a name may make a link there.
fn letters(permissions: u8) -> String {
    let letters = [(READ, "r"), (WRITE, "wl"), (MAP, "m")];
    let set = letters
        .into_iter()
        .filter(|(bit, _)| permissions & bit != 0);
    set.map(|(_, letters)| letters).collect()
}

fn left_out_limit(info: &RuleInfo, why: LeftOut) -> Limit {
    match why {
        LeftOut::Crossed => of_rule(
            info,
            "pattern",
            "a pattern of a stronger rule lets pass some of what this one blocks, which a profile cannot say",
        ),
        LeftOut::TooLong => of_rule(
            info,
            "pattern",
            "a profile cannot say what it leaves out: a name is too long, or there are too many",
        ),
    }
}

fn indented(text: &str, by: usize) -> String {
    let lines = text.lines();
    lines.map(|line| format!("{:by$}{line}\n", "")).collect()
}
