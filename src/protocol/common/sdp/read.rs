//! The text of a session description → its sections.
//!
//! RFC 8866 §5 (lines), §5.14 (`m=`), §6.6 (`rtpmap`), §6.15 (`fmtp`); RFC 2326 §C.1.1 (`control`). Borrows the text while it reads.
//! Limits: see [`super`]. Not here: what an `rtpmap` and its `fmtp` mean.

use super::encoding::{self, Parameters};
use super::{
    ATTRIBUTE_BYTES_MAX, ATTRIBUTES_MAX, CONTROL_BYTES_MAX, Description, MEDIA_MAX, Media, PAYLOAD_TYPES_MAX, SdpError,
    TEXT_BYTES_MAX, Unusable,
};
use crate::format::rtp::RtpPayload;
use crate::media::TrackKind;

/// Reads a description. Lines that mean nothing here are skipped.
pub fn parse(text: &str) -> Result<Description, SdpError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(SdpError::TooLong);
    }
    let mut is_sdp = false;
    let mut session = Section::default();
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in text.split(['\r', '\n']).map(trimmed) {
        let Some((kind, value)) = line.split_once('=') else { continue };
        match kind.trim_end() {
            "v" => is_sdp = true,
            "m" if sections.len() == MEDIA_MAX => return Err(SdpError::TooManyMedia),
            "m" => sections.push(Section::of_media(value)),
            "a" => sections.last_mut().unwrap_or(&mut session).add_attribute(value.trim_start()),
            _ => {}
        }
    }
    if !is_sdp && sections.is_empty() {
        return Err(SdpError::NotSdp);
    }
    let media = sections.iter().map(|section| section.media(&session)).collect();
    Ok(Description { control: session.control(), media })
}

/// Some cameras end their text with a NUL.
fn trimmed(line: &str) -> &str {
    line.trim_matches(|c: char| c.is_whitespace() || c == '\0')
}

/// The lines of one section, or those before the first.
#[derive(Default)]
struct Section<'a> {
    kind: Option<TrackKind>,
    payload_types: Vec<u8>,
    /// Payload type and what stands behind it.
    maps: Vec<(u8, &'a str)>,
    formats: Vec<(u8, &'a str)>,
    control: Option<&'a str>,
}

impl<'a> Section<'a> {
    /// `media port proto fmt…`
    fn of_media(value: &'a str) -> Self {
        let mut fields = value.split_whitespace();
        let kind = match fields.next() {
            Some(media) if media.eq_ignore_ascii_case("video") => Some(TrackKind::Video),
            Some(media) if media.eq_ignore_ascii_case("audio") => Some(TrackKind::Audio),
            _ => None,
        };
        let mut payload_types = Vec::new();
        for number in fields.skip(2).filter_map(payload_type) {
            if payload_types.len() < PAYLOAD_TYPES_MAX && !payload_types.contains(&number) {
                payload_types.push(number);
            }
        }
        Section { kind, payload_types, ..Section::default() }
    }

    fn add_attribute(&mut self, attribute: &'a str) {
        let Some((name, value)) = attribute.split_once(':') else { return };
        let (name, value) = (name.trim_end(), value.trim_start());
        if name.eq_ignore_ascii_case("control") {
            self.control = self.control.or(Some(value));
            return;
        }
        let list = match name {
            _ if name.eq_ignore_ascii_case("rtpmap") => &mut self.maps,
            _ if name.eq_ignore_ascii_case("fmtp") => &mut self.formats,
            _ => return,
        };
        let (number, rest) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
        let has_room = list.len() < ATTRIBUTES_MAX && rest.len() <= ATTRIBUTE_BYTES_MAX;
        if let (Some(number), true) = (payload_type(number), has_room) {
            list.push((number, rest.trim_start()));
        }
    }

    fn control(&self) -> Option<String> {
        self.control.filter(|control| !control.is_empty() && control.len() <= CONTROL_BYTES_MAX).map(str::to_owned)
    }

    fn media(&self, session: &Section<'a>) -> Media {
        let mut results = self.payload_types.iter().map(|number| self.payload(*number, session));
        let payload = match results.next() {
            None => Err(Unusable::Parameters),
            Some(Ok(payload)) => Ok(payload),
            Some(Err(first)) => results.find_map(Result::ok).ok_or(first),
        };
        Media { kind: self.kind, control: self.control(), payload }
    }

    /// What the section does not say of a payload type, the session may.
    fn payload(&self, number: u8, session: &Section<'a>) -> Result<RtpPayload, Unusable> {
        let of_number = |list: &[(u8, &'a str)]| -> Vec<&'a str> {
            list.iter().filter(|(other, _)| *other == number).map(|(_, value)| *value).collect()
        };
        let map = of_number(&self.maps).first().copied().or_else(|| of_number(&session.maps).first().copied());
        let formats = [of_number(&self.formats), of_number(&session.formats)].concat();
        let payload = encoding::payload(number, map, &Parameters::new(formats))?;
        let fits = self.kind == Some(payload.codec.kind());
        if fits { Ok(payload) } else { Err(Unusable::Codec(payload.codec.name().to_owned())) }
    }
}

fn payload_type(text: &str) -> Option<u8> {
    text.parse().ok().filter(|number| *number <= 127)
}
