//! JSON objects written member by member, straight to bytes.
//!
//! Most answers are jobs, and a serializer that looks at each of their bytes for what has to be escaped
//! takes a third of the time that a submit spends in its handler. Here a text is looked through in one
//! sweep, and copied where nothing in it is to be escaped; all else is left to `serde_json`.

use serde::Serialize;

/// The members of an object that is being written.
#[derive(Debug)]
pub(crate) struct Object<'b> {
    bytes: &'b mut Vec<u8>,
    is_empty: bool,
}

/// Appends an object with the members that `write` writes.
pub(crate) fn object(bytes: &mut Vec<u8>, write: impl FnOnce(&mut Object<'_>)) {
    bytes.push(b'{');
    let mut members = Object {
        bytes,
        is_empty: true,
    };
    write(&mut members);
    bytes.push(b'}');
}

impl Object<'_> {
    #[inline]
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        text(self.bytes, value);
    }

    /// Writes a text, or null where there is none.
    pub(crate) fn maybe_text(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(name, value),
            None => self.null(name),
        }
    }

    #[inline]
    pub(crate) fn null(&mut self, name: &str) {
        self.name(name);
        self.bytes.extend_from_slice(b"null");
    }

    #[inline]
    pub(crate) fn flag(&mut self, name: &str, value: bool) {
        self.name(name);
        let text: &[u8] = if value { b"true" } else { b"false" };
        self.bytes.extend_from_slice(text);
    }

    /// Writes whatever there is a serializer for.
    pub(crate) fn value(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.name(name);
        // Writing to memory does not fail, and every key is a string.
        let _cannot_fail = serde_json::to_writer(&mut *self.bytes, value);
    }

    /// Writes what is JSON already.
    pub(crate) fn json(&mut self, name: &str, value: &str) {
        self.name(name);
        self.bytes.extend_from_slice(value.as_bytes());
    }

    /// Writes a member whose value `write` appends to the bytes.
    pub(crate) fn written(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.name(name);
        write(self.bytes);
    }

    /// Writes a member that is an object itself.
    pub(crate) fn object(&mut self, name: &str, write: impl FnOnce(&mut Object<'_>)) {
        self.name(name);
        object(self.bytes, write);
    }

    /// Writes a list, each item of which `write` appends to the bytes.
    pub(crate) fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Vec<u8>, T),
    ) {
        self.name(name);
        self.bytes.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.bytes.push(b',');
            }
            write(self.bytes, item);
        }
        self.bytes.push(b']');
    }

    /// Begins a member. Names are our own: there is nothing in them to be escaped. Where it is inlined
    /// their lengths are known, and they are not copied by a call.
    #[inline]
    fn name(&mut self, name: &str) {
        let before: &[u8] = if self.is_empty { b"\"" } else { b",\"" };
        self.is_empty = false;
        self.bytes.extend_from_slice(before);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b"\":");
    }
}

/// Appends a text in quotes.
pub(crate) fn text(bytes: &mut Vec<u8>, text: &str) {
    let is_escaped = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    // Without a way out of the loop, and in bytes, so that it looks at many of them at once.
    let escaped = text
        .bytes()
        .fold(0, |any, byte| any | u8::from(is_escaped(byte)));
    if escaped == 0 {
        bytes.reserve(text.len() + 2);
        bytes.push(b'"');
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(b'"');
    } else {
        // Writing to memory does not fail.
        let _cannot_fail = serde_json::to_writer(bytes, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn every_text_reads_back_as_it_was() {
        let mut texts: Vec<String> = (0..=0x2ff_u32)
            .filter_map(char::from_u32)
            .map(|character| format!("{}{character}{}", "x".repeat(33), "y".repeat(5)))
            .collect();
        texts.extend(
            ["", "\"", "\\", "\u{7f}", "\u{2028}", "a\"b\\c\nd", "ärger"].map(String::from),
        );
        for written in texts {
            let mut bytes = Vec::new();
            text(&mut bytes, &written);
            assert_eq!(bytes, serde_json::to_vec(&written).unwrap(), "{written:?}");
        }
    }

    #[test]
    fn members_stand_in_their_order() {
        let mut bytes = Vec::new();
        object(&mut bytes, |outer| {
            outer.text("a", "1");
            outer.null("b");
            outer.maybe_text("c", None);
            outer.object("d", |_empty| {});
            outer.list("e", [1, 2], |bytes, number| {
                object(bytes, |inner| inner.value("n", &number));
            });
            outer.list("f", [0; 0], |_bytes, _number| {});
            outer.value("g", &json!([true, 1.5]));
        });
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            r#"{"a":"1","b":null,"c":null,"d":{},"e":[{"n":1},{"n":2}],"f":[],"g":[true,1.5]}"#
        );
        assert!(serde_json::from_slice::<Value>(&bytes).is_ok());
    }
}
