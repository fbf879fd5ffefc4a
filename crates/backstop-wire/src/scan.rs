//! A pass over JSON: its grammar, and how much its texts say. Owned here is what all JSON has in common; which fields matter
//! is known to who calls.

use crate::WireError;
use crate::read::Path;
use backstop_call::Size;
use std::borrow::Cow;
use std::ops::Range;

/// Containers within containers; what `serde_json` reads at most.
const DEPTH_MAX: usize = 127;

/// In a box, so that what goes well takes a register.
pub(crate) type Scanned<T = ()> = Result<T, Box<WireError>>;

impl From<Box<WireError>> for WireError {
    fn from(error: Box<WireError>) -> Self {
        *error
    }
}

/// A pass over a text.
pub(crate) struct Scan<'a> {
    bytes: &'a [u8],
    pub(crate) at: usize,
    /// Where the string stands that was read last, quotes included: before a value, its name.
    pub(crate) string: Range<usize>,
    /// Whether that has no escapes.
    pub(crate) is_plain: bool,
    /// Whether there is any control character: between values they are blanks, in a string they are not allowed.
    has_controls: bool,
    pub(crate) size: Size,
    pub(crate) pictures_bytes: u64,
}

/// Where a value stands, and its name where it has one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Note {
    /// Quotes included.
    pub(crate) name: Range<usize>,
    /// The same.
    pub(crate) value: Range<usize>,
    /// How many notes are about the value: this one, and behind it those about what is in it.
    pub(crate) count: usize,
    /// The byte that the value begins with.
    pub(crate) first: u8,
    /// Whether the name has no escapes.
    pub(crate) is_plain_name: bool,
    /// Whether the value is no string with escapes.
    pub(crate) is_plain: bool,
}

/// Where a value stands, as far as it matters for what it is.
#[derive(Clone, Copy)]
pub(crate) struct Place<'k> {
    /// The name it has; empty in a list.
    name: &'k [u8],
    /// The name of what it stands in.
    parent: &'k [u8],
    depth: usize,
    /// Within the arguments or the schema of a tool, where nothing is a picture.
    opaque: bool,
}

impl<'k> Place<'k> {
    /// The value of this name in the body itself.
    pub(crate) fn in_body(name: &'k [u8]) -> Self {
        Self { name, parent: b"", depth: 1, opaque: false }
    }
}

impl<'a> Scan<'a> {
    pub(crate) fn over(bytes: &'a [u8]) -> Self {
        let has_controls = has_controls(bytes);
        Self {
            bytes,
            at: 0,
            string: 0..0,
            is_plain: true,
            has_controls,
            size: Size::default(),
            pictures_bytes: 0,
        }
    }

    #[cold]
    fn wrong<T>(&self, problem: &str) -> Scanned<T> {
        Err(Path::Root.wrong(format!("is no valid JSON ({problem} at byte {})", self.at)).into())
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(crate) fn is_object(&self) -> bool {
        self.peek() == Some(b'{')
    }

    #[inline]
    fn blanks(&mut self) {
        // As a rule there are none.
        if self.peek().is_some_and(|byte| byte > b' ') {
            return;
        }
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Scanned {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        self.expected(byte)
    }

    #[cold]
    fn expected(&self, byte: u8) -> Scanned {
        self.wrong(&format!("expected `{}`", char::from(byte)))
    }

    /// The whole text: one value, and nothing behind it. `value` is called where it begins.
    pub(crate) fn whole(&mut self, value: impl FnOnce(&mut Self) -> Scanned) -> Scanned {
        self.blanks();
        value(self)?;
        self.blanks();
        if self.at < self.bytes.len() { self.wrong("something follows") } else { Ok(()) }
    }

    /// An object. `value` is called where each value begins, with its name read last.
    pub(crate) fn members(&mut self, mut value: impl FnMut(&mut Self) -> Scanned) -> Scanned {
        self.expect(b'{')?;
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.string()?;
            self.blanks();
            self.expect(b':')?;
            self.blanks();
            value(self)?;
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.wrong("expected `,` or `}`"),
            }
            self.blanks();
        }
    }

    /// A list. `item` is called where each item begins.
    pub(crate) fn items(&mut self, mut item: impl FnMut(&mut Self) -> Scanned) -> Scanned {
        self.expect(b'[')?;
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.wrong("expected `,` or `]`"),
            }
            self.blanks();
        }
    }

    /// What the string says that was read last. One with half of a character in it says what is written.
    pub(crate) fn said(&self) -> Cow<'a, [u8]> {
        let quoted = &self.bytes[self.string.clone()];
        let text = if self.is_plain { None } else { serde_json::from_slice::<String>(quoted).ok() };
        text.map_or(Cow::Borrowed(&quoted[1..quoted.len() - 1]), |text| Cow::Owned(text.into_bytes()))
    }

    /// Passes a value and measures its texts.
    pub(crate) fn value(&mut self, place: Place<'_>) -> Scanned {
        match self.peek() {
            Some(b'"') => {
                self.string()?;
                self.measure(self.string.start + 1..self.string.end - 1, place);
                Ok(())
            }
            Some(b'{') => {
                let depth = self.deeper(place.depth)?;
                self.members(|scan| {
                    let name = &*scan.said();
                    // A request of Responses has its conversation under `input`; below that it is a tool's.
                    let opaque = place.opaque
                        || matches!(name, b"input" | b"input_schema" | b"parameters" | b"schema");
                    scan.value(Place { name, parent: place.name, depth, opaque })
                })
            }
            Some(b'[') => {
                let depth = self.deeper(place.depth)?;
                self.items(|scan| scan.value(Place { name: b"", parent: place.name, depth, ..place }))
            }
            _ => self.scalar(),
        }
    }

    /// Passes a value and notes where it and all that is in it stands.
    #[inline]
    pub(crate) fn note(&mut self, notes: &mut Vec<Note>, depth: usize) -> Scanned {
        let (at, name, is_plain_name) = (notes.len(), self.string.clone(), self.is_plain);
        let (from, first) = (self.at, self.peek().unwrap_or(0));
        let mut note = Note { name, is_plain_name, value: from..from, first, count: 1, is_plain: true };
        if matches!(first, b'{' | b'[') {
            notes.push(note);
            self.note_within(notes, depth)?;
            notes[at].value.end = self.at;
            notes[at].count = notes.len() - at;
            return Ok(());
        }
        if first == b'"' {
            self.string()?;
            note.is_plain = self.is_plain;
        } else {
            self.scalar()?;
        }
        note.value.end = self.at;
        notes.push(note);
        Ok(())
    }

    fn note_within(&mut self, notes: &mut Vec<Note>, depth: usize) -> Scanned {
        let depth = self.deeper(depth)?;
        if self.is_object() {
            self.members(|scan| scan.note(notes, depth))
        } else {
            self.items(|scan| scan.note(notes, depth))
        }
    }

    fn deeper(&self, depth: usize) -> Scanned<usize> {
        if depth < DEPTH_MAX { Ok(depth + 1) } else { self.wrong("too many levels") }
    }

    fn scalar(&mut self) -> Scanned {
        match self.peek() {
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str) -> Scanned {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        self.wrong("an unknown word")
    }

    fn number(&mut self) -> Scanned {
        let digits = |scan: &mut Self| {
            let from = scan.at;
            while matches!(scan.peek(), Some(b'0'..=b'9')) {
                scan.at += 1;
            }
            if scan.at > from { Ok(()) } else { scan.wrong("expected a value") }
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => digits(self)?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            digits(self)?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            digits(self)?;
        }
        Ok(())
    }

    /// A string, from quote to quote.
    #[inline]
    fn string(&mut self) -> Scanned {
        // Most are names and short values without escapes.
        let rest = &self.bytes[self.at..];
        if let [b'"', text @ ..] = rest
            && let Some(length) = short_length(text)
            && !self.has_controls
        {
            self.string = self.at..self.at + length + 2;
            self.at = self.string.end;
            self.is_plain = true;
            return Ok(());
        }
        self.any_string()
    }

    #[inline(never)]
    fn any_string(&mut self) -> Scanned {
        let from = self.at;
        self.expect(b'"')?;
        self.is_plain = true;
        loop {
            let rest = &self.bytes[self.at..];
            let plain = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            if self.has_controls && has_controls(&rest[..plain]) {
                self.at += rest.iter().position(|byte| *byte < 0x20).unwrap_or(0);
                return self.wrong("a control character in a string");
            }
            self.at += plain;
            match rest.get(plain) {
                Some(b'"') => {
                    self.at += 1;
                    self.string = from..self.at;
                    return Ok(());
                }
                Some(_) => self.escape()?,
                None => return self.wrong("a string without an end"),
            }
            self.is_plain = false;
        }
    }

    fn escape(&mut self) -> Scanned {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            // Half of a surrogate pair is grammatical, and for the provider to judge.
            Some(b'u') => self.hex()?,
            _ => return self.wrong("an unknown escape"),
        }
        Ok(())
    }

    /// Four hexadecimal digits behind a `u`.
    fn hex(&mut self) -> Scanned {
        let digits = self.bytes.get(self.at + 1..self.at + 5);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return self.wrong("an unknown escape");
        }
        self.at += 5;
        Ok(())
    }

    /// A picture counts by the piece and not by its bytes.
    fn measure(&mut self, text: Range<usize>, place: Place<'_>) {
        if place.opaque {
            return;
        }
        let bytes = &self.bytes[text];
        let length = bytes.len() as u64;
        match (place.parent, place.name) {
            (b"source", b"data") if !is_picture(bytes) => self.size.documents += length,
            (b"source", b"data") => self.picture(length),
            (_, b"file_data") => self.size.documents += length,
            (_, b"file_url") => self.size.linked_documents += 1,
            // The type of what an address leads to may stand behind it; its ending is a sign as well.
            (b"source", b"url") if bytes.to_ascii_lowercase().ends_with(b".pdf") => {
                self.size.linked_documents += 1;
            }
            (b"image_url", b"url") | (_, b"image_url") if bytes.starts_with(b"data:") => self.picture(length),
            (b"source" | b"image_url", b"url") | (_, b"image_url") => self.picture(0),
            _ => {}
        }
    }

    fn picture(&mut self, inline_bytes: u64) {
        self.size.images += 1;
        self.pictures_bytes += inline_bytes;
    }
}

/// Whether base64 is that of a picture, by how the formats begin: PNG, JPEG, GIF, WebP.
fn is_picture(base64: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 4] = [b"iVBORw0KGgo", b"/9j/", b"R0lGOD", b"UklGR"];
    BEGINNINGS.iter().any(|beginning| base64.starts_with(beginning))
}

/// How many characters a text has; `None` when it is none.
pub(crate) fn chars(bytes: &[u8]) -> Option<usize> {
    if bytes.is_ascii() {
        return Some(bytes.len());
    }
    std::str::from_utf8(bytes).ok().map(|text| text.chars().count())
}

fn has_controls(bytes: &[u8]) -> bool {
    // All of them, and not up to the first: so many are looked at with one instruction.
    bytes.iter().fold(0, |found, byte| found | u8::from(*byte < 0x20)) > 0
}

/// How many bytes come before the quote that ends a string, if it is short and no backslash is among them.
#[inline]
fn short_length(text: &[u8]) -> Option<usize> {
    /// A search that is made for longer texts takes longer to begin.
    const SHORT: usize = 32;
    let mut at = 0;
    for eight in text.as_chunks().0.iter().take(SHORT / 8) {
        let eight = u64::from_le_bytes(*eight);
        let found = zeros(eight ^ each(b'"')) | zeros(eight ^ each(b'\\'));
        if found != 0 {
            at += found.trailing_zeros() as usize / 8;
            return Some(at).filter(|at| text.get(*at) == Some(&b'"'));
        }
        at += 8;
    }
    None
}

const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The highest bit of each byte that is zero; above the first of them, others may be set too.
const fn zeros(eight: u64) -> u64 {
    eight.wrapping_sub(each(1)) & !eight & each(0x80)
}
