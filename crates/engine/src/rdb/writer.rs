//! Writes the parts of a payload.

use crate::value::number;

#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A number in the format's length encoding.
    pub(super) fn len(&mut self, len: u64) {
        match len {
            ..0x40 => self.byte(len as u8),
            0x40..0x4000 => self.raw(&(len as u16 | 0x4000).to_be_bytes()),
            0x4000..0x1_0000_0000 => {
                self.byte(0x80);
                self.raw(&(len as u32).to_be_bytes());
            }
            _ => {
                self.byte(0x81);
                self.raw(&len.to_be_bytes());
            }
        }
    }

    /// A string; a small integer as such, as Redis does.
    pub(super) fn string(&mut self, string: &[u8]) {
        const LONGEST_INT: usize = 11;
        let int = (string.len() <= LONGEST_INT).then(|| number::parse_int(string)).flatten();
        match int.and_then(|int| i32::try_from(int).ok()) {
            Some(int) if i8::try_from(int).is_ok() => self.raw(&[0xc0, int as u8]),
            Some(int) if i16::try_from(int).is_ok() => {
                self.byte(0xc1);
                self.raw(&(int as i16).to_le_bytes());
            }
            Some(int) => {
                self.byte(0xc2);
                self.raw(&int.to_le_bytes());
            }
            None => self.plain(string),
        }
    }

    /// A string as it is.
    pub(super) fn plain(&mut self, string: &[u8]) {
        self.len(string.len() as u64);
        self.raw(string);
    }

    /// The items behind their number.
    pub(super) fn each<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Writer, &T)) {
        self.len(items.len() as u64);
        items.iter().for_each(|item| write(self, item));
    }
}
