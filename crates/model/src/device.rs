// SPDX-License-Identifier: Apache-2.0
//! USB devices, as rules and the kernel describe them.

/// A USB interface that was plugged in (USB 2.0, 9.6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// `bInterfaceClass`.
    pub class: u8,
    /// `bInterfaceSubClass`.
    pub subclass: u8,
    /// `bInterfaceProtocol`.
    pub protocol: u8,
    /// How many hubs away from the host's root hub, from 1.
    pub level: u8,
}

/// The number of a USB class by the name that policies use, in any case (KubeArmor 11.1; numbers
/// from the USB-IF's list of defined class codes).
pub fn class_by_name(name: &str) -> Option<u8> {
    let mut classes = CLASSES.iter();
    classes
        .find(|(_, known)| known.eq_ignore_ascii_case(name))
        .map(|(number, _)| *number)
}

const CLASSES: [(u8, &str); 24] = [
    (1, "AUDIO"),
    (2, "COMMUNICATION-CDC"),
    (3, "HID"),
    (5, "PHYSICAL"),
    (6, "IMAGE"),
    (7, "PRINTER"),
    (8, "MASS-STORAGE"),
    (9, "HUB"),
    (10, "CDC-DATA"),
    (11, "SMART-CARD"),
    (13, "CONTENT-SECURITY"),
    (14, "VIDEO"),
    (15, "PERSONAL-HEALTHCARE"),
    (16, "AUDIO/VIDEO"),
    (17, "BILLBOARD"),
    (18, "TYPE-C-BRIDGE"),
    (19, "BULK-DISPLAY"),
    (20, "MCTP"),
    (60, "I3C"),
    (220, "DIAGNOSTIC"),
    (224, "WIRELESS-CONTROLLER"),
    (239, "MISCELLANEOUS"),
    (254, "APPLICATION-SPECIFIC"),
    (255, "VENDOR-SPECIFIC"),
];
