// SPDX-License-Identifier: Apache-2.0
//! The JSON form: one line an event, with the field names of KubeArmor's protobuf messages.
//!
//! Fields with their default value are left out, as KubeArmor's own client does.

use crate::convert;
use gorget_model::Event;

/// For serde: the field is left out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// An event as one line of JSON, without the line feed.
pub fn line(event: &Event) -> String {
    convert::received(event).json()
}
