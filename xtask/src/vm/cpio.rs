// SPDX-License-Identifier: Apache-2.0
//! Writing the archive format of an initial RAM disk: cpio, `newc` variant.
//!
//! KERNEL: `Documentation/driver-api/early-userspace/buffer-format.rst` defines it:
//! a header of 13 hexadecimal fields, the name, the data, each padded to 4 bytes.
//! Everything belongs to root and has no date, so equal content gives equal bytes.

use anyhow::{Context as _, Result};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub(crate) fn directory(&mut self, name: &str) -> Result<()> {
        self.entry(name, DIRECTORY, (0, 0), &[])
    }

    pub(crate) fn program(&mut self, name: &str, data: &[u8]) -> Result<()> {
        self.entry(name, PROGRAM, (0, 0), data)
    }

    pub(crate) fn character_device(&mut self, name: &str, number: (u32, u32)) -> Result<()> {
        self.entry(name, CHARACTER_DEVICE, number, &[])
    }

    pub(crate) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(data.len())
            .with_context(|| format!("`{name}` is too large for an initial RAM disk"))?;
        let name_size = u32::try_from(name.len() + 1)?;
        let fields = [
            self.entries,
            mode,
            0, // uid
            0, // gid
            1, // links
            0, // modification time
            size,
            0, // major of the device it is on
            0, // minor
            device.0,
            device.1,
            name_size,
            0, // checksum, not used in this variant
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode, device and data.
    type Entry = (String, u32, (u32, u32), Vec<u8>);

    /// Each entry, read back as the format is defined.
    fn read(bytes: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let header = std::str::from_utf8(&bytes[at..at + 110]).unwrap();
            assert!(header.starts_with("070701"));
            let field = |n: usize| {
                let digits = header.get(6 + 8 * n..14 + 8 * n).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let name_end = at + 110 + field(11) as usize;
            let name = String::from_utf8(bytes[at + 110..name_end - 1].to_vec()).unwrap();
            assert_eq!(bytes[name_end - 1], 0);
            let data = name_end.next_multiple_of(4);
            let data_end = data + field(6) as usize;
            entries.push((
                name,
                field(1),
                (field(9), field(10)),
                bytes[data..data_end].to_vec(),
            ));
            at = data_end.next_multiple_of(4);
        }
        entries
    }

    #[test]
    fn what_was_put_into_an_archive_can_be_read_back() {
        let mut archive = Archive::default();
        archive.directory("dev").unwrap();
        archive.character_device("dev/console", (5, 1)).unwrap();
        archive.program("init", b"#!x\n!").unwrap();
        let none = Vec::new();
        assert_eq!(
            read(&archive.finish().unwrap()),
            [
                ("dev".to_owned(), 0o040_755, (0, 0), none.clone()),
                ("dev/console".to_owned(), 0o020_600, (5, 1), none.clone()),
                ("init".to_owned(), 0o100_755, (0, 0), b"#!x\n!".to_vec()),
                ("TRAILER!!!".to_owned(), 0, (0, 0), none),
            ]
        );
    }
}
