//! The `f=` line (GB/T 28181-2016 Annex F) ⇄ values: `v/codec/resolution/rate/bitrate type/kbit/s` and `a/codec/bitrate/sampling`.
//!
//! Numbers are the standard's codes; where a field is empty the sender chooses.

use std::fmt;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    pub video: VideoFormat,
    pub audio: AudioFormat,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VideoFormat {
    /// 1 MPEG-4, 2 H.264, 3 SVAC, 4 3GP, 5 H.265.
    pub codec: Option<u8>,
    /// 1 QCIF to 6 1080P, or `1920x1080`.
    pub resolution: String,
    pub frames_per_second: Option<u16>,
    /// 1 constant, 2 variable.
    pub rate_type: Option<u8>,
    /// kbit/s.
    pub kilobits: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AudioFormat {
    /// 1 G.711, 2 G.723.1, 3 G.729, 4 G.722.1, 5 SVAC, 6 AAC.
    pub codec: Option<u8>,
    /// 8 is 64 kbit/s.
    pub rate: Option<u8>,
    /// 1 is 8 kHz.
    pub sampling: Option<u8>,
}

impl Format {
    /// Sound as every device knows it: 64 kbit/s at 8 kHz.
    pub fn g711a() -> Self {
        Format { audio: AudioFormat { codec: Some(1), rate: Some(8), sampling: Some(1) }, ..Format::default() }
    }

    /// `None`: not of this form.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (video, audio) = text.strip_prefix("v/")?.split_once("a/").or_else(|| Some((text.strip_prefix("v/")?, "")))?;
        let mut fields = video.split('/').map(str::trim);
        let video = VideoFormat {
            codec: number(fields.next()),
            resolution: fields.next().unwrap_or_default().to_owned(),
            frames_per_second: number(fields.next()),
            rate_type: number(fields.next()),
            kilobits: number(fields.next()),
        };
        let mut fields = audio.split('/').map(str::trim);
        let audio = AudioFormat { codec: number(fields.next()), rate: number(fields.next()), sampling: number(fields.next()) };
        Some(Format { video, audio })
    }
}

fn number<T: std::str::FromStr>(text: Option<&str>) -> Option<T> {
    text?.parse().ok()
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
        let (video, audio) = (&self.video, &self.audio);
        let (codec, kind) = (text(video.codec.map(u32::from)), text(video.rate_type.map(u32::from)));
        let frames = text(video.frames_per_second.map(u32::from));
        write!(f, "v/{codec}/{}/{frames}/{kind}/{}", video.resolution, text(video.kilobits))?;
        let [codec, rate, sampling] = [audio.codec, audio.rate, audio.sampling].map(|number| text(number.map(u32::from)));
        write!(f, "a/{codec}/{rate}/{sampling}")
    }
}
