// SPDX-License-Identifier: Apache-2.0
//! What a rule asks for, and what becomes of it.
//!
//! [`asks`] is the table of section 2 of the semantics: the rule's action, changed by what its
//! modifiers make of the access. [`Fate`] has one sentence for people for each way in which a rule
//! can lose.

use super::naming::Naming;
use gorget_model::Access;
use gorget_policy::{Action, Modifiers, Rule};
use std::fmt;

/// What a rule asks for, given the access. The first wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Denied.
    Block,
    /// Passes with an alert.
    Audit,
    /// Passes.
    Allow,
    /// The object is listed, this access is not: the default posture decides.
    Posture,
}

/// A condition of a rule on the access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Modifier {
    /// `readOnly`.
    ReadOnly,
    /// `ownerOnly`.
    OwnerOnly,
    /// `pts: false`.
    NoTerminal,
    /// `allowedArgs`.
    AllowedArguments,
}

/// What became of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It decides.
    Decides,
    /// It wins and lists the object, but not this access.
    LeavesToPosture,
    /// Its `fromSource` does not name the subject.
    SourceDiffers,
    /// Its `fromSource` names the subject, but it does not name the object.
    ObjectDiffers,
    /// The access satisfies these modifiers, so the rule has nothing to report or deny.
    Silenced(Vec<Modifier>),
    /// A rule whose `fromSource` names the subject applies, and this one has none.
    NamesNoSource,
    /// Another names the object more precisely.
    LessSpecific {
        /// How.
        winner: Naming,
    },
    /// Another names it as precisely and asks for something that goes first.
    WeakerAction {
        /// For what.
        winner: Effect,
    },
    /// Another is equal, and comes first by the name of its policy and its place there.
    Later,
    /// It speaks about the directory that moves; a rule about something in it is stricter.
    MilderThanBelow,
    /// It keeps the directory in place, but what it says is not stricter than the rest.
    NotStricter,
    /// It keeps the directory in place for an object about which another rule decides.
    OverruledBelow,
}

impl Fate {
    /// Whether the verdict is this rule's doing.
    pub fn wins(&self) -> bool {
        matches!(self, Self::Decides | Self::LeavesToPosture)
    }
}

/// `None`: the rule says nothing about the access.
pub(super) fn asks(rule: &Rule, access: &Access, write: bool, owner: bool) -> Option<Effect> {
    let Modifiers {
        read_only,
        owner_only,
        no_terminal,
    } = rule.modifiers;
    let allowed = &rule.allowed_arguments;
    let given = |argument: &Vec<u8>| allowed.iter().any(|a| a.as_bytes() == argument.as_slice());
    let satisfied = (!read_only || !write)
        && (!owner_only || owner)
        && (!no_terminal || !access.modes.terminal)
        && (allowed.is_empty() || access.arguments.iter().all(given));
    let modifiers = satisfied_modifiers(rule);
    // `pts: false` alone says nothing about tasks without a terminal; every other modifier lists
    // what satisfies it as allowed.
    let silent = modifiers == [Modifier::NoTerminal];
    match rule.action {
        Action::Allow if satisfied => Some(Effect::Allow),
        Action::Allow => Some(Effect::Posture),
        Action::Block if modifiers.is_empty() || !satisfied => Some(Effect::Block),
        Action::Block => (!silent).then_some(Effect::Allow),
        Action::Audit if modifiers.is_empty() || !satisfied => Some(Effect::Audit),
        Action::Audit => None,
    }
}

/// The rule's modifiers. Where the rule is silent, all of them are satisfied.
pub(super) fn satisfied_modifiers(rule: &Rule) -> Vec<Modifier> {
    let Modifiers {
        read_only,
        owner_only,
        no_terminal,
    } = rule.modifiers;
    [
        (read_only, Modifier::ReadOnly),
        (owner_only, Modifier::OwnerOnly),
        (no_terminal, Modifier::NoTerminal),
        (
            !rule.allowed_arguments.is_empty(),
            Modifier::AllowedArguments,
        ),
    ]
    .into_iter()
    .filter_map(|(there, modifier)| there.then_some(modifier))
    .collect()
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Block => "Block",
            Self::Audit => "Audit",
            Self::Allow => "Allow",
            Self::Posture => "the default posture",
        })
    }
}

impl fmt::Display for Modifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "`readOnly`",
            Self::OwnerOnly => "`ownerOnly`",
            Self::NoTerminal => "`pts: false`",
            Self::AllowedArguments => "`allowedArgs`",
        })
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decides => f.write_str("it decides"),
            Self::LeavesToPosture => f.write_str(
                "it lists the object, but does not allow this access, so the default posture decides",
            ),
            Self::SourceDiffers => f.write_str("its `fromSource` does not name the subject"),
            Self::ObjectDiffers => {
                f.write_str("its `fromSource` names the subject, but it does not name the object")
            }
            Self::Silenced(modifiers) => {
                let names: Vec<String> = modifiers.iter().map(ToString::to_string).collect();
                let names = names.join(" and ");
                write!(f, "it says nothing, because the access satisfies {names}")
            }
            Self::NamesNoSource => {
                f.write_str("a rule whose `fromSource` names the subject goes before it")
            }
            Self::LessSpecific { winner } => {
                write!(f, "{winner} goes before it, because that is more specific")
            }
            Self::WeakerAction { winner } => write!(f, "{winner} goes before it"),
            Self::Later => {
                f.write_str("an equal rule comes first by the name of its policy and its place")
            }
            Self::MilderThanBelow => {
                f.write_str("a rule about something in the directory is stricter")
            }
            Self::NotStricter => {
                f.write_str("it keeps the directory in place, but asks for nothing stricter")
            }
            Self::OverruledBelow => f.write_str(
                "it keeps the directory in place, but another rule decides about what it names",
            ),
        }
    }
}
