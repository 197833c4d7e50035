// SPDX-License-Identifier: Apache-2.0
//! The fields of the four kinds of policy: KubeArmor's CRDs as tables.
//!
//! Descriptions are shown by `kubectl explain`. Wider than KubeArmor's CRDs, never narrower:
//! `fromSource` has `dir` everywhere, `pts` is on every network rule, no network or capability rule
//! of a host needs `fromSource`, all 41 capabilities are named, paths are as long as the kernel's.

use crate::document::DocumentKind;
use crate::meta::ACTIONS;
use crate::network_policy::{QUOTA_SCOPES, TRANSPORTS};
use crate::policy::Kind;
use crate::selector::{CLUSTER_KEYS, OPERATORS, POD_KEYS};
use crate::shape::{FieldShape, Shape, Type, words};
use gorget_model::{Capability, Preset, Protocol, Syscall};

/// As in KubeArmor's CRDs.
const MOST_ARGUMENTS: usize = 20;

const fn field(name: &'static str, of: Type, description: &'static str) -> FieldShape {
    FieldShape::new(name, of, description)
}

const TEXTS: Type = Type::Texts { most: None };

/// A list of mappings.
const fn list(name: &'static str, of: &'static Shape, description: &'static str) -> FieldShape {
    field(name, Type::Mappings(of), description)
}

const fn mapping(name: &'static str, of: &'static Shape, description: &'static str) -> FieldShape {
    field(name, Type::Mapping(of), description)
}

// === what rules inherit ===

const SEVERITY: FieldShape = field(
    "severity",
    Type::Integer { least: 1, most: 10 },
    "How bad it is, 1 to 10; inherited.",
);
const TAGS: FieldShape = field("tags", TEXTS, "Tags of the alerts; inherited.");
const MESSAGE: FieldShape = field("message", Type::Text, "Text of the alerts; inherited.");
const ACTION: FieldShape = field(
    "action",
    Type::Word(|| words(ACTIONS)),
    "What is done about it; inherited; `Block` when nothing says otherwise.",
);
const META: &[FieldShape] = &[SEVERITY, TAGS, MESSAGE, ACTION];
const SYSCALL_META: &[FieldShape] = &[SEVERITY, TAGS, MESSAGE];

// === what entries have in common ===

static SOURCE: Shape = Shape::new(&[
    field("path", Type::Path, "Exactly this executable."),
    field("dir", Type::Text, "Executables in this directory."),
    RECURSIVE,
]);
const FROM_SOURCE: FieldShape = list(
    "fromSource",
    &SOURCE,
    "Only what these executables do; absent: what any does.",
);
const RECURSIVE: FieldShape = field(
    "recursive",
    Type::Flag,
    "Everything below the directory, not only its direct children.",
);
const READ_ONLY: FieldShape = field("readOnly", Type::Flag, "Only reading satisfies the rule.");
const OWNER_ONLY: FieldShape = field(
    "ownerOnly",
    Type::Flag,
    "Only the owner of the object satisfies the rule.",
);
const PTS: FieldShape = field(
    "pts",
    Type::Flag,
    "`false`: only tasks without a controlling terminal satisfy the rule.",
)
.nullable();
const ALLOWED_ARGUMENTS: FieldShape = field(
    "allowedArgs",
    Type::Texts {
        most: Some(MOST_ARGUMENTS),
    },
    "Only these arguments, in any order and number, satisfy the rule.",
);
const PATH: FieldShape = field("path", Type::Path, "Exactly this path.");
const DIR: FieldShape = field(
    "dir",
    Type::Directory,
    "This directory and its direct children.",
)
.required();
const PATTERN: FieldShape = field(
    "pattern",
    Type::Text,
    "A glob over the whole path, in AppArmor's dialect.",
)
.required();

// === process and file ===

static PROCESS_PATH: Shape = Shape::new(&[
    PATH,
    field(
        "execname",
        Type::FileName,
        "Any path with this last component.",
    ),
    FROM_SOURCE,
    OWNER_ONLY,
    PTS,
    ALLOWED_ARGUMENTS,
])
.and(META);
static PROCESS_DIRECTORY: Shape =
    Shape::new(&[DIR, RECURSIVE, FROM_SOURCE, OWNER_ONLY, PTS]).and(META);
static PROCESS_PATTERN: Shape = Shape::new(&[PATTERN, OWNER_ONLY]).and(META);
static PROCESS: Shape = Shape::new(&[
    list("matchPaths", &PROCESS_PATH, "Rules by path or name."),
    list(
        "matchDirectories",
        &PROCESS_DIRECTORY,
        "Rules by directory.",
    ),
    list("matchPatterns", &PROCESS_PATTERN, "Rules by pattern."),
])
.and(META);

static FILE_PATH: Shape =
    Shape::new(&[PATH.required(), FROM_SOURCE, READ_ONLY, OWNER_ONLY, PTS]).and(META);
static FILE_DIRECTORY: Shape =
    Shape::new(&[DIR, RECURSIVE, FROM_SOURCE, READ_ONLY, OWNER_ONLY, PTS]).and(META);
static FILE_PATTERN: Shape = Shape::new(&[PATTERN, READ_ONLY, OWNER_ONLY]).and(META);
static FILE: Shape = Shape::new(&[
    list("matchPaths", &FILE_PATH, "Rules by path."),
    list("matchDirectories", &FILE_DIRECTORY, "Rules by directory."),
    list("matchPatterns", &FILE_PATTERN, "Rules by pattern."),
])
.and(META);

// === network, capabilities, syscalls, presets, device ===

static PROTOCOL: Shape = Shape::new(&[
    field(
        "protocol",
        Type::Names(protocols),
        "Protocols or socket types, with commas between them.",
    )
    .required(),
    FROM_SOURCE,
    PTS,
])
.and(META);
static DNS_QUERY: Shape = Shape::new(&[
    field(
        "domain",
        Type::Text,
        "Domains with everything below them, with commas between them.",
    )
    .required(),
    FROM_SOURCE,
    PTS,
])
.and(META);
static NETWORK: Shape = Shape::new(&[
    list("matchProtocols", &PROTOCOL, "Rules by protocol."),
    list(
        "matchDNSQueries",
        &DNS_QUERY,
        "Rules about names that are looked up.",
    ),
])
.and(META);

static CAPABILITY: Shape = Shape::new(&[
    field(
        "capability",
        Type::Names(capabilities),
        "Capabilities, with commas between them.",
    )
    .required(),
    FROM_SOURCE,
])
.and(META);
static CAPABILITIES: Shape = Shape::new(&[list(
    "matchCapabilities",
    &CAPABILITY,
    "Rules by capability.",
)])
.and(META);

const SYSCALL: FieldShape = field(
    "syscall",
    Type::WordList(|| Syscall::all().map(Syscall::name).collect()),
    "System calls by name.",
);
static SYSCALL_ENTRY: Shape = Shape::new(&[SYSCALL, FROM_SOURCE]);
static SYSCALL_PATH: Shape = Shape::new(&[
    field(
        "path",
        Type::PathOrDirectory,
        "What the call is given: a path, or a directory when it ends with a slash.",
    ),
    RECURSIVE,
    SYSCALL,
    FROM_SOURCE,
]);
static SYSCALLS: Shape = Shape::new(&[
    list("matchSyscalls", &SYSCALL_ENTRY, "Rules by system call."),
    list(
        "matchPaths",
        &SYSCALL_PATH,
        "Rules by system call and path.",
    ),
])
.and(SYSCALL_META);

static PRESET: Shape = Shape::new(&[
    field(
        "name",
        Type::Word(|| Preset::ALL.map(Preset::name).to_vec()),
        "Which attack.",
    )
    .required(),
    ACTION,
]);

static DEVICE_ENTRY: Shape = Shape::new(&[
    field(
        "class",
        Type::Text,
        "USB class: a number, decimal or `0x` and hexadecimal, a name, or `ALL`.",
    )
    .required(),
    field("subClass", BYTE, "USB subclass."),
    field("protocol", BYTE, "USB protocol."),
    field(
        "level",
        Type::Integer {
            least: 1,
            most: 255,
        },
        "How many hubs away from the root hub.",
    ),
])
.and(META);
const BYTE: Type = Type::Integer {
    least: 0,
    most: 255,
};
static DEVICE: Shape =
    Shape::new(&[list("matchDevice", &DEVICE_ENTRY, "Rules by USB device.")]).and(META);

/// Lower and upper case: other mixtures are for files, which no API server sees.
fn protocols() -> Vec<String> {
    let lower = Protocol::ALL.map(|protocol| protocol.name().to_owned());
    let upper = Protocol::ALL.map(|protocol| protocol.name().to_ascii_uppercase());
    lower.into_iter().chain(upper).collect()
}

fn capabilities() -> Vec<String> {
    let lower = Capability::all().map(|capability| format!("(cap_)?{}", capability.name()));
    let upper = Capability::all()
        .map(|capability| format!("(CAP_)?{}", capability.name().to_ascii_uppercase()));
    lower.chain(upper).collect()
}

// === selectors ===

const MATCH_LABELS: FieldShape = field(
    "matchLabels",
    Type::Labels,
    "All of these labels; `kubearmor.io/container.name: \"[a,b]\"` names containers.",
);
const VALUES: FieldShape = field("values", TEXTS, "For labels: `key=value`.").required();
const OPERATOR: FieldShape = field(
    "operator",
    Type::Word(|| words(OPERATORS)),
    "`In`: one of the values; `NotIn`: none of them.",
)
.required();
static POD_EXPRESSION: Shape = Shape::new(&[
    field("key", Type::Word(|| words(POD_KEYS)), "What is compared.").required(),
    OPERATOR,
    VALUES,
]);
static CLUSTER_EXPRESSION: Shape = Shape::new(&[
    field(
        "key",
        Type::Word(|| words(CLUSTER_KEYS)),
        "What is compared.",
    )
    .required(),
    OPERATOR,
    VALUES,
]);
static POD_SELECTOR: Shape = Shape::new(&[
    MATCH_LABELS,
    list(
        "matchExpressions",
        &POD_EXPRESSION,
        "All of these conditions.",
    ),
]);
static CLUSTER_SELECTOR: Shape = Shape::new(&[list(
    "matchExpressions",
    &CLUSTER_EXPRESSION,
    "All of these conditions.",
)]);
static NODE_SELECTOR: Shape = Shape::new(&[field(
    "matchLabels",
    Type::Labels,
    "All of these labels; `kubearmor.io/hostname: \"*\"` is every host.",
)
.required()]);

// === network policies ===

static IP_BLOCK: Shape =
    Shape::new(&[field("cidr", Type::Text, "Addresses, such as `10.0.0.0/8`.").required()]);
static PEER: Shape = Shape::new(&[mapping("ipBlock", &IP_BLOCK, "A range of addresses.")]);
static PORT: Shape = Shape::new(&[
    field(
        "port",
        Type::Text,
        "A number, or `ssh`, `http`, `https`, `dns`.",
    )
    .required(),
    field(
        "endPort",
        Type::Integer {
            least: 1,
            most: 65_535,
        },
        "The last port of a range that begins with `port`.",
    ),
    field(
        "protocol",
        Type::Word(|| words(TRANSPORTS)),
        "`TCP` when absent.",
    ),
]);
const IFACE: FieldShape = field("iface", TEXTS, "Network interfaces; absent: any.");
const PORTS: FieldShape = list("ports", &PORT, "Ports; absent: any.");
const LIMIT: FieldShape = field("limit", Type::Bytes, "How much may pass in `duration`.");
const DURATION: FieldShape = field(
    "duration",
    Type::Text,
    "For how long a quota counts, such as `20m`.",
);
static INGRESS: Shape = Shape::new(&[
    list("from", &PEER, "Where it comes from; absent: anywhere."),
    IFACE,
    PORTS,
    LIMIT,
    DURATION,
])
.and(META);
static EGRESS: Shape = Shape::new(&[
    list("to", &PEER, "Where it goes; absent: anywhere."),
    IFACE,
    PORTS,
    LIMIT,
    DURATION,
])
.and(META);

// === documents ===

const PROCESS_BLOCK: FieldShape = mapping("process", &PROCESS, "Which programs run.");
const FILE_BLOCK: FieldShape = mapping("file", &FILE, "Which files are accessed.");
const NETWORK_BLOCK: FieldShape = mapping(
    "network",
    &NETWORK,
    "Which sockets are used, which names looked up.",
);
const CAPABILITIES_BLOCK: FieldShape = mapping(
    "capabilities",
    &CAPABILITIES,
    "Which capabilities are used.",
);
const SYSCALLS_BLOCK: FieldShape = mapping(
    "syscalls",
    &SYSCALLS,
    "Which system calls are made; always only audited.",
);
const PRESETS_LIST: FieldShape = list("presets", &PRESET, "Attacks with a name.");
const APPARMOR: FieldShape = field(
    "apparmor",
    Type::Text,
    "Lines in AppArmor's own language, for that backend only.",
);
const NODE_SELECTOR_FIELD: FieldShape = mapping("nodeSelector", &NODE_SELECTOR, "For which hosts.");

static CONTAINER_SPEC: Shape = Shape::new(&[
    mapping(
        "selector",
        &POD_SELECTOR,
        "For which containers; absent: all of the namespace.",
    ),
    PROCESS_BLOCK,
    FILE_BLOCK,
    NETWORK_BLOCK,
    CAPABILITIES_BLOCK,
    SYSCALLS_BLOCK,
    PRESETS_LIST,
    APPARMOR,
])
.and(META);
static HOST_SPEC: Shape = Shape::new(&[
    NODE_SELECTOR_FIELD.required(),
    PROCESS_BLOCK,
    FILE_BLOCK,
    NETWORK_BLOCK,
    CAPABILITIES_BLOCK,
    SYSCALLS_BLOCK,
    mapping("device", &DEVICE, "Which USB devices are plugged in."),
    APPARMOR,
])
.and(META);
static CLUSTER_SPEC: Shape = Shape::new(&[
    mapping(
        "selector",
        &CLUSTER_SELECTOR,
        "For which containers; absent: all.",
    ),
    PROCESS_BLOCK,
    FILE_BLOCK,
    NETWORK_BLOCK,
    CAPABILITIES_BLOCK,
    SYSCALLS_BLOCK,
    PRESETS_LIST,
    APPARMOR,
])
.and(META);
static NETWORK_SPEC: Shape = Shape::new(&[
    NODE_SELECTOR_FIELD,
    mapping(
        "selector",
        &POD_SELECTOR,
        "For which pods; not together with `nodeSelector`.",
    ),
    field(
        "level",
        Type::Word(|| words(QUOTA_SCOPES)),
        "Whether each pod has a quota of its own, or all share the policy's.",
    ),
    list("ingress", &INGRESS, "Rules for what comes in."),
    list("egress", &EGRESS, "Rules for what goes out."),
])
.and(META);

static METADATA: Shape = Shape::new(&[
    field("name", Type::Text, "Name of the policy.").required(),
    field("namespace", Type::Text, "Namespace of the policy."),
])
.open();
/// A condition as all of Kubernetes writes them.
static CONDITION: Shape = Shape::new(&[
    field("type", Type::Text, "What it is about.").required(),
    field(
        "status",
        Type::Word(|| vec!["True", "False", "Unknown"]),
        "Whether it holds.",
    )
    .required(),
    field("reason", Type::Text, "Why, as a word."),
    field("message", Type::Text, "Why, for people."),
    field("lastTransitionTime", Type::Text, "Since when."),
    field("observedGeneration", GENERATION, "Of which generation."),
])
.open();
const GENERATION: Type = Type::Integer {
    least: 0,
    most: u32::MAX,
};
static STATUS: Shape = Shape::new(&[
    field("status", Type::Text, "What became of the policy."),
    list(
        "conditions",
        &CONDITION,
        "`Accepted`, `Enforced` and `Degraded`.",
    ),
    field("observedGeneration", GENERATION, "Of which generation."),
])
.open();

/// What every document has beside its `spec`.
const HEAD: &[FieldShape] = &[
    field("apiVersion", Type::Text, "Version of this schema.").required(),
    field("kind", Type::Text, "Kind of the policy.").required(),
    mapping("metadata", &METADATA, "Name and labels.").required(),
    mapping("status", &STATUS, "Written by the agent."),
];
const fn spec(shape: &'static Shape) -> FieldShape {
    mapping("spec", shape, "What the policy says.").required()
}
static CONTAINER_DOCUMENT: Shape = Shape::new(HEAD).and(&[spec(&CONTAINER_SPEC)]);
static HOST_DOCUMENT: Shape = Shape::new(HEAD).and(&[spec(&HOST_SPEC)]);
static CLUSTER_DOCUMENT: Shape = Shape::new(HEAD).and(&[spec(&CLUSTER_SPEC)]);
static NETWORK_DOCUMENT: Shape = Shape::new(HEAD).and(&[spec(&NETWORK_SPEC)]);

/// What a document of this kind may contain.
pub(crate) fn document(kind: DocumentKind) -> &'static Shape {
    match kind {
        DocumentKind::Policy(Kind::Container) => &CONTAINER_DOCUMENT,
        DocumentKind::Policy(Kind::Host) => &HOST_DOCUMENT,
        DocumentKind::Policy(Kind::Cluster) => &CLUSTER_DOCUMENT,
        DocumentKind::Network => &NETWORK_DOCUMENT,
    }
}
