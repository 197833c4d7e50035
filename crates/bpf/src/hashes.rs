// SPDX-License-Identifier: Apache-2.0
//! What programs are that are executed: `bpf/hashes.bpf.c`.
//!
//! The programs are loaded where it is configured and end with the agent; the programs that decide know
//! nothing of them. Whoever reads an event looks up what its process and the parent ran when it
//! happened. What was started before the programs were attached has no hash, and rather than a wrong one
//! an event has none.

use crate::abi::{self, image_hash, process_hashes};
use crate::attach::{self, LoadError, program_ids};
use crate::decode::{DecodeError, read, read_u32, read_u64};
use crate::refusal::explained;
use gorget_model::{FileHash, Hashes, KernelEvent, KernelLog, Logged, Operation};
use libbpf_rs::{Link, MapCore as _, MapFlags, MapHandle, ObjectBuilder, OpenObject};
use std::collections::BTreeSet;
use std::mem::offset_of;
use std::path::Path;

const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hashes.bpf.o"));
const TABLE: &str = "hashes";
/// Where IMA is, if the kernel has it.
const IMA: &str = "/sys/kernel/security/ima";
const MOST: usize = abi::limit::ABI_HASH_MAX.0 as usize;

// KERNEL: enum hash_algo of include/uapi/linux/hash_info.h, with the names of crypto/hash_info.c.
/// Number, name, bytes.
const ALGORITHMS: [(u32, &str, usize); 14] = [
    (1, "md5", 16),
    (2, "sha1", 20),
    (3, "rmd160", 20),
    (4, "sha256", 32),
    (5, "sha384", 48),
    (6, "sha512", 64),
    (7, "sha224", 28),
    (13, "wp512", 64),
    (17, "sm3", 32),
    (18, "streebog256", 32),
    (19, "streebog512", 64),
    (20, "sha3-256", 32),
    (21, "sha3-384", 48),
    (22, "sha3-512", 64),
];

/// The programs that have hashes made.
#[derive(Debug)]
pub(crate) struct HashPrograms {
    links: Vec<(String, Link)>,
    program_ids: BTreeSet<u32>,
    table: MapHandle,
}

impl HashPrograms {
    pub(crate) fn attach() -> Result<Self, LoadError> {
        if !Path::new(IMA).exists() {
            return Err(LoadError::NoIma);
        }
        let object = open().map_err(LoadError::Open)?;
        let object = explained(|| object.load()).map_err(LoadError::Load)?;
        let map = object.maps().find(|map| map.name() == TABLE);
        let map = map.ok_or_else(|| attach::missing(TABLE))?;
        let table = handle(MapHandle::try_from(&map))?;
        let links = attach::attach(&[object])?;
        Ok(Self {
            program_ids: program_ids(&links)?,
            links,
            table,
        })
    }

    pub(crate) fn links(&self) -> &[(String, Link)] {
        &self.links
    }

    pub(crate) fn has_program(&self, id: u32) -> bool {
        self.program_ids.contains(&id)
    }

    /// For a thread that reads events.
    pub(crate) fn table(&self) -> Result<HashTable, LoadError> {
        handle(MapHandle::try_from(&self.table)).map(HashTable)
    }
}

fn handle(map: libbpf_rs::Result<MapHandle>) -> Result<MapHandle, LoadError> {
    map.map_err(|source| LoadError::Map {
        map: TABLE.to_owned(),
        source,
    })
}

pub(crate) fn open() -> libbpf_rs::Result<OpenObject> {
    ObjectBuilder::default().name(TABLE)?.open_memory(OBJECT)
}

/// What processes run.
#[derive(Debug)]
pub(crate) struct HashTable(MapHandle);

impl HashTable {
    /// Fills in what the process of an event and its parent were.
    pub(crate) fn complete(&self, mut event: KernelEvent) -> KernelEvent {
        let at = event.boot_ns;
        let own = self.of(event.task.host_pid);
        event.task.hashes = match event.operation {
            // People are told that what is to be run is the process, and that who runs it is the parent.
            Operation::Exec => Hashes {
                process: own.as_ref().and_then(|own| own.executing(at)),
                parent: own.as_ref().and_then(|own| own.image(at)),
            },
            Operation::Load => Hashes {
                process: None,
                parent: own.as_ref().and_then(|own| own.image(at)),
            },
            _ => self.of_actor(own.as_ref(), event.task.host_ppid, at),
        };
        event
    }

    /// As [`Self::complete`].
    pub(crate) fn complete_log(&self, log: &mut KernelLog) {
        let at = log.boot_ns;
        let own = self.of(log.task.host_pid);
        let own = own.as_ref();
        log.task.hashes = match log.what {
            Logged::Exec { .. } if log.result >= 0 => Hashes {
                process: own.and_then(|own| own.image(at)),
                parent: own.and_then(|own| own.image_before(at)),
            },
            Logged::Exec { .. } => Hashes {
                process: None,
                parent: own.and_then(|own| own.image(at)),
            },
            Logged::Exit { .. }
            | Logged::File { .. }
            | Logged::Network { .. }
            | Logged::Capability(_)
            | Logged::Lookup(_) => self.of_actor(own, log.task.host_ppid, at),
        };
    }

    fn of_actor(&self, own: Option<&Images>, parent: u32, at: u64) -> Hashes {
        Hashes {
            process: own.and_then(|own| own.image(at)),
            parent: self.of(parent).and_then(|parent| parent.image(at)),
        }
    }

    /// `None`: nothing is known of the process.
    fn of(&self, process: u32) -> Option<Images> {
        let found = self.0.lookup(&process.to_ne_bytes(), MapFlags::ANY);
        Images::decode(&found.ok()??).ok()
    }
}

/// An image, and since when.
#[derive(Debug)]
struct Image {
    since_ns: u64,
    hash: Option<Box<FileHash>>,
}

/// `struct process_hashes`.
#[derive(Debug)]
struct Images {
    executing: Image,
    running: Image,
    before: Image,
}

impl Images {
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self {
            executing: Image::decode(bytes, offset_of!(process_hashes, executing))?,
            running: Image::decode(bytes, offset_of!(process_hashes, running))?,
            before: Image::decode(bytes, offset_of!(process_hashes, before))?,
        })
    }

    /// What was about to be executed at this time.
    fn executing(&self, at: u64) -> Option<Box<FileHash>> {
        let executing = &self.executing;
        executing.hash.clone().filter(|_| executing.since_ns <= at)
    }

    /// What ran at this time; `None` also when that is too long ago.
    fn image(&self, at: u64) -> Option<Box<FileHash>> {
        let images = [&self.running, &self.before].into_iter();
        let image = images.into_iter().find(|image| image.since_ns <= at)?;
        image.hash.clone()
    }

    /// What ran before what ran at this time.
    fn image_before(&self, at: u64) -> Option<Box<FileHash>> {
        let before = self.before.hash.clone();
        before.filter(|_| self.running.since_ns <= at)
    }
}

impl Image {
    fn decode(bytes: &[u8], at: usize) -> Result<Self, DecodeError> {
        let number = read_u32(bytes, at + offset_of!(image_hash, algorithm))?;
        let digest = read::<MOST>(bytes, at + offset_of!(image_hash, digest))?;
        let known = ALGORITHMS.into_iter().find(|(known, ..)| *known == number);
        let hash = known.and_then(|(_, algorithm, len)| {
            let digest = digest.get(..len)?.to_vec();
            Some(Box::new(FileHash { algorithm, digest }))
        });
        Ok(Self {
            since_ns: read_u64(bytes, at + offset_of!(image_hash, since_ns))?,
            hash,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two processes: times, and what the digests begin with; 0: not known.
    fn images(executing: (u64, u8), running: (u64, u8), before: (u64, u8)) -> Images {
        let mut bytes = vec![0; size_of::<process_hashes>()];
        let fields = [
            (offset_of!(process_hashes, executing), executing),
            (offset_of!(process_hashes, running), running),
            (offset_of!(process_hashes, before), before),
        ];
        for (at, (since, first)) in fields {
            let mut put = |field: usize, with: &[u8]| {
                bytes[at + field..at + field + with.len()].copy_from_slice(with);
            };
            let algorithm: i32 = if first == 0 { -95 } else { 4 };
            put(offset_of!(image_hash, since_ns), &since.to_ne_bytes());
            put(offset_of!(image_hash, algorithm), &algorithm.to_ne_bytes());
            put(offset_of!(image_hash, digest), &[first]);
        }
        Images::decode(&bytes).unwrap()
    }

    fn first(hash: Option<Box<FileHash>>) -> u8 {
        hash.map_or(0, |hash| {
            assert_eq!((hash.algorithm, hash.digest.len()), ("sha256", 32));
            hash.digest[0]
        })
    }

    #[test]
    fn an_event_has_the_image_that_ran_when_it_happened() {
        let own = images((50, 5), (60, 5), (20, 2));
        assert_eq!(first(own.image(60)), 5);
        assert_eq!(first(own.image(59)), 2);
        assert_eq!(first(own.executing(50)), 5);
        assert_eq!(first(own.image_before(60)), 2);
        // Too long ago: it is not known any more.
        assert_eq!(first(own.image(19)), 0);
        assert_eq!(first(own.executing(49)), 0);
        assert_eq!(first(own.image_before(59)), 0);
    }

    #[test]
    fn what_ima_could_not_hash_has_no_hash_and_hides_what_was_before() {
        let own = images((50, 0), (60, 0), (20, 2));
        assert_eq!(first(own.image(70)), 0);
        assert_eq!(first(own.executing(70)), 0);
        assert!(Images::decode(&[0; 100]).is_err());
    }

    #[test]
    fn no_digest_is_longer_than_the_kernel_keeps() {
        assert!(ALGORITHMS.into_iter().all(|(_, _, len)| len <= MOST));
    }
}
