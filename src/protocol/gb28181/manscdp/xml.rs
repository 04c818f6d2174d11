//! XML text ⇄ elements with their texts: as much of XML 1.0 as MANSCDP uses.
//!
//! Read leniently: an `&` that begins no reference stands for itself, names have any case and prefix, spaces around a text do not count,
//! and what follows the root is not looked at. A document type is refused: nothing here needs entities. Attributes are passed over.
//! Limits: [`DEPTH_MAX`], [`ELEMENTS_MAX`], [`TEXT_BYTES_MAX`]. Not here: charsets, and what the elements mean.

use quick_xml::events::Event;
use quick_xml::reader::Reader;

use super::ManscdpError;

/// The deepest message of the standard has 5.
pub const DEPTH_MAX: usize = 16;
/// In one body.
pub const ELEMENTS_MAX: usize = 32 * 1024;
/// Of one element.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;

/// An element: its name without prefix, its own text, and what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    pub name: String,
    pub text: String,
    pub children: Vec<Element>,
}

impl Element {
    /// The root of a document.
    pub fn parse(text: &str) -> Result<Element, ManscdpError> {
        let text = text.get(text.find('<').unwrap_or(text.len())..).unwrap_or_default();
        let mut reader = Reader::from_str(text);
        let config = reader.config_mut();
        config.allow_dangling_amp = true;
        config.expand_empty_elements = true;
        let mut open = Open::default();
        loop {
            let event = reader.read_event().map_err(|error| ManscdpError::Syntax(error.to_string()))?;
            match event {
                Event::Start(start) => open.begin(start.local_name().into_inner())?,
                Event::End(_) => {
                    if let Some(root) = open.end() {
                        return Ok(root);
                    }
                }
                Event::Text(text) => open.text(&text.xml10_content())?,
                Event::CData(text) => open.text(&text.xml10_content())?,
                Event::GeneralRef(reference) => match named(&reference).or(reference.resolve_char_ref().ok().flatten()) {
                    Some(character) => open.text(character.encode_utf8(&mut [0; 4]))?,
                    None => open.text(&format!("&{};", &*reference))?,
                },
                Event::DocType(_) => return Err(ManscdpError::DocumentType),
                Event::Eof => return Err(ManscdpError::Incomplete),
                Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            }
        }
    }

    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.is(name))
    }

    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The elements of a list: the `item`s in the child `list`; none if there is no such child.
    pub fn listed<'a>(&'a self, list: &str, item: &'a str) -> impl Iterator<Item = &'a Element> {
        let list = self.child(list).map_or(&[][..], |list| &list.children);
        list.iter().filter(move |child| child.is(item))
    }
}

/// The five of XML.
fn named(reference: &str) -> Option<char> {
    Some(match reference {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => return None,
    })
}

/// What is begun and not ended, the root first.
#[derive(Default)]
struct Open {
    elements: Vec<Element>,
    count: usize,
}

impl Open {
    fn begin(&mut self, name: &str) -> Result<(), ManscdpError> {
        self.count += 1;
        if self.elements.len() == DEPTH_MAX {
            return Err(ManscdpError::TooDeep);
        }
        if self.count > ELEMENTS_MAX {
            return Err(ManscdpError::TooManyElements);
        }
        self.elements.push(Element { name: name.to_owned(), ..Element::default() });
        Ok(())
    }

    /// The root, when it was that which ended.
    fn end(&mut self) -> Option<Element> {
        let mut ended = self.elements.pop()?;
        ended.text.truncate(ended.text.trim_end().len());
        match self.elements.last_mut() {
            Some(parent) => {
                parent.children.push(ended);
                None
            }
            None => Some(ended),
        }
    }

    /// Line ends and tabs become spaces, other control characters nothing.
    fn text(&mut self, text: &str) -> Result<(), ManscdpError> {
        let Some(element) = self.elements.last_mut() else { return Ok(()) };
        let spaced = text.chars().map(|c| if matches!(c, '\t' | '\n' | '\r') { ' ' } else { c });
        for character in spaced.filter(|c| !c.is_control()) {
            if character.is_whitespace() && element.text.is_empty() {
                continue;
            }
            element.text.push(character);
        }
        (element.text.len() <= TEXT_BYTES_MAX).then_some(()).ok_or(ManscdpError::TextTooLong)
    }
}

/// Makes the text of a document.
#[derive(Debug, Default)]
pub struct Writer {
    out: String,
}

impl Writer {
    pub fn new(charset: &str) -> Self {
        Writer { out: format!("<?xml version=\"1.0\" encoding=\"{charset}\"?>\r\n") }
    }

    pub fn finish(mut self) -> String {
        self.out.push_str("\r\n");
        self.out
    }

    /// An element of text; none where the text is empty.
    pub fn text(&mut self, name: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        self.tag("<", name, ">");
        for character in text.chars().filter(|c| !c.is_control()) {
            match character {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                _ => self.out.push(character),
            }
        }
        self.tag("</", name, ">");
    }

    /// An element that holds what `inside` writes.
    pub fn element(&mut self, name: &str, inside: impl FnOnce(&mut Writer)) {
        self.tag("<", name, ">");
        inside(self);
        self.tag("</", name, ">");
    }

    /// As [`Writer::element`], but none where nothing is in it.
    pub fn element_of_any(&mut self, name: &str, inside: impl FnOnce(&mut Writer)) {
        let before = self.out.len();
        self.tag("<", name, ">");
        let begun = self.out.len();
        inside(self);
        match self.out.len() == begun {
            true => self.out.truncate(before),
            false => self.tag("</", name, ">"),
        }
    }

    /// A list with the number of what is in it: `<name Num="1">`.
    pub fn list<T>(&mut self, name: &str, item: &str, items: &[T], mut write: impl FnMut(&mut Writer, &T)) {
        self.out.push_str(&format!("<{name} Num=\"{}\">", items.len()));
        for each in items {
            self.tag("<", item, ">");
            write(self, each);
            self.tag("</", item, ">");
        }
        self.tag("</", name, ">");
    }

    fn tag(&mut self, before: &str, name: &str, behind: &str) {
        self.out.push_str(before);
        self.out.push_str(name);
        self.out.push_str(behind);
    }
}
