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
    let text = match event {
        Event::Alert(alert) => serde_json::to_string(&convert::alert(alert)),
        Event::Log(log) => serde_json::to_string(&convert::log(log)),
        Event::Threshold(threshold) => serde_json::to_string(&convert::threshold(threshold)),
        Event::Message(message) => serde_json::to_string(&convert::message(message)),
    };
    // Strings, numbers and maps with string keys: there is nothing that JSON cannot say.
    text.unwrap_or_default()
}
