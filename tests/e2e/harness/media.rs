//! The media that is sent: FLV files made once by ffmpeg from its test sources, kept in `target/e2e-media`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use super::flv::Tag;
use super::framemd5::{self, Streams};
use super::{Client, ffmpeg, ffmpeg_new, flv, target};

/// One file, and how it is made.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    name: &'static str,
    /// Whether the system's ffmpeg cannot make it.
    new: bool,
    seconds: u32,
    picture: &'static str,
    sound: &'static str,
    codecs: &'static str,
}

/// What a recipe's picture is, for those who have to name a parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Video {
    H264,
    H265,
    Av1,
    Vp9,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audio {
    Aac,
    Opus,
    Mp3,
    Alaw,
    Ulaw,
}

const PICTURE: &str = "testsrc2=s=320x180:r=25";
const SOUND: &str = "anoisesrc=r=44100:a=0.1";

/// H.264 with B-frames and AAC, 0.6 Mb/s, a keyframe per second.
pub const H264_AAC: Recipe = Recipe {
    name: "h264_aac",
    new: false,
    seconds: 8,
    picture: PICTURE,
    sound: SOUND,
    codecs: "-c:v libx264 -preset veryfast -bf 2 -g 25 -sc_threshold 0 -b:v 500k -c:a aac -b:a 96k",
};
/// The same in another size of picture.
pub const H264_AAC_LARGE: Recipe = Recipe { name: "h264_aac_large", seconds: 4, picture: "testsrc2=s=640x360:r=25", ..H264_AAC };
/// Four megabits per second.
pub const H264_AAC_HEAVY: Recipe = Recipe {
    name: "h264_aac_heavy",
    seconds: 6,
    picture: "testsrc2=s=640x360:r=25,noise=alls=40:allf=t",
    codecs: "-c:v libx264 -preset ultrafast -g 25 -b:v 4M -minrate 4M -maxrate 4M -bufsize 1M -c:a aac -b:a 96k",
    ..H264_AAC
};
/// Pictures in two slices and several packets each, with B-frames.
pub const H264_SLICES_AAC: Recipe = Recipe {
    name: "h264_slices_aac",
    seconds: 10,
    picture: "testsrc2=s=640x360:r=25,noise=alls=20:allf=t",
    codecs: "-c:v libx264 -preset ultrafast -bf 2 -slices 2 -g 25 -b:v 2M -maxrate 2M -bufsize 500k -c:a aac -b:a 96k",
    ..H264_AAC
};
/// Three white pictures and a beep at the beginning of every second but one, so that one second is not like another. There is noise in between, because silence is so small that ffmpeg
/// sends a second of it in one RTP packet.
pub const FLASH_BEEP: Recipe = Recipe {
    name: "flash_beep_but_one",
    seconds: 8,
    picture: "color=black:s=160x90:r=50,drawbox=c=white:t=fill:enable='lt(mod(t,1),0.06)*not(eq(floor(t),5))'",
    sound: "aevalsrc='if(lt(mod(t,1),0.06)*not(eq(floor(t),5)),sin(6283*t)/2,0)+random(0)/25-0.02':s=48000",
    codecs: "-c:v libx264 -preset veryfast -tune zerolatency -bf 0 -g 50 -c:a aac -b:a 96k",
    ..H264_AAC
};
/// The same with B-frames.
pub const FLASH_BEEP_B: Recipe = Recipe {
    name: "flash_beep_but_one_b",
    codecs: "-c:v libx264 -preset veryfast -bf 2 -g 50 -sc_threshold 0 -c:a aac -b:a 96k",
    ..FLASH_BEEP
};
/// Eight seconds in which sound, 375 frames of it, is as long as the picture: sent over and over there is no seam.
pub const LIVE: Recipe = Recipe { name: "live", sound: "anoisesrc=r=48000:a=0.1", ..H264_AAC };
pub const LIVE_LARGE: Recipe = Recipe { name: "live_large", picture: "testsrc2=s=640x360:r=25", ..LIVE };
pub const LIVE_HEVC: Recipe = Recipe { name: "live_hevc", new: true, codecs: HEVC_AAC.codecs, ..LIVE };
/// How long they are, in milliseconds and in frames of sound.
pub const LIVE_MS: u32 = 8_000;
const LIVE_SOUNDS: usize = 375;
/// Ten bars per picture, white where a digit of its number is one, least significant first; the lower half shows the opposite.
pub const CLOCK: Recipe = Recipe {
    name: "clock",
    seconds: 16,
    picture: "nullsrc=s=320x180:r=25,geq=lum='16+219*mod(floor(N/pow(2\\,floor(X/32)))+gt(Y\\,89)\\,2)':cb=128:cr=128",
    codecs: "-c:v libx264 -preset veryfast -tune zerolatency -bf 0 -g 25 -sc_threshold 0 -b:v 500k -c:a aac -b:a 96k",
    ..H264_AAC
};
pub const HEVC_AAC: Recipe = Recipe {
    name: "hevc_aac",
    new: true,
    seconds: 5,
    codecs: "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25:bframes=2 -c:a aac -b:a 96k",
    ..H264_AAC
};
pub const H264_OPUS: Recipe = Recipe {
    name: "h264_opus",
    new: true,
    seconds: 5,
    codecs: "-c:v libx264 -preset veryfast -bf 2 -g 25 -c:a libopus -ar 48000 -b:a 64k",
    ..H264_AAC
};
pub const AV1_AAC: Recipe = Recipe {
    name: "av1_aac",
    new: true,
    seconds: 5,
    codecs: "-c:v libsvtav1 -preset 12 -g 25 -svtav1-params lp=1 -c:a aac",
    ..H264_AAC
};
pub const AV1_ONLY: Recipe =
    Recipe { name: "av1_only", codecs: "-map 0:v -c:v libsvtav1 -preset 12 -g 25 -svtav1-params lp=1", ..AV1_AAC };
pub const VP9_MP3: Recipe = Recipe {
    name: "vp9_mp3",
    new: true,
    seconds: 5,
    codecs: "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25 -b:v 300k -c:a libmp3lame -b:a 64k",
    ..H264_AAC
};
pub const H264_ALAW: Recipe = Recipe {
    name: "h264_alaw",
    seconds: 4,
    sound: "anoisesrc=r=8000:a=0.1",
    codecs: "-c:v libx264 -preset veryfast -bf 2 -g 25 -c:a pcm_alaw -ar 8000 -ac 1",
    ..H264_AAC
};
pub const H264_ULAW: Recipe =
    Recipe { name: "h264_ulaw", codecs: "-c:v libx264 -preset veryfast -bf 2 -g 25 -c:a pcm_mulaw -ar 8000 -ac 1", ..H264_ALAW };

pub const H264_MP3: Recipe = Recipe {
    name: "h264_mp3",
    new: true,
    seconds: 4,
    codecs: "-c:v libx264 -preset veryfast -bf 0 -g 25 -b:v 800k -c:a libmp3lame -b:a 64k",
    ..H264_AAC
};
pub const H265_ONLY: Recipe = Recipe {
    name: "h265_only",
    new: true,
    seconds: 4,
    codecs: "-map 0:v -c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25:bframes=0 -b:v 800k",
    ..H264_AAC
};
/// Without B-frames.
pub const H264_PLAIN_AAC: Recipe = Recipe {
    name: "h264_plain_aac",
    seconds: 4,
    codecs: "-c:v libx264 -preset veryfast -tune zerolatency -bf 0 -g 25 -c:a aac -b:a 96k",
    ..H264_AAC
};
pub const H264_B_AAC: Recipe = Recipe { name: "h264_b_aac", seconds: 4, ..H264_AAC };
pub const H265_OPUS: Recipe = Recipe {
    name: "h265_opus",
    new: true,
    seconds: 4,
    codecs: "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25:bframes=2 -c:a libopus -ar 48000 -b:a 64k",
    ..H264_AAC
};
/// For players that have to wait for a keyframe.
pub const H265_OPUS_LONG: Recipe = Recipe { name: "h265_opus_long", seconds: 8, ..H265_OPUS };
pub const AAC_ONLY: Recipe = Recipe { name: "aac_only", seconds: 4, codecs: "-map 1:a -c:a aac -b:a 96k", ..H264_AAC };

impl Recipe {
    pub fn video(&self) -> Option<Video> {
        let has = |codec: &str| self.codecs.contains(codec);
        match () {
            () if has("libx264") => Some(Video::H264),
            () if has("libx265") => Some(Video::H265),
            () if has("libsvtav1") => Some(Video::Av1),
            () if has("libvpx-vp9") => Some(Video::Vp9),
            () => None,
        }
    }

    pub fn audio(&self) -> Option<Audio> {
        let has = |codec: &str| self.codecs.contains(codec);
        match () {
            () if has("-c:a aac") => Some(Audio::Aac),
            () if has("libopus") => Some(Audio::Opus),
            () if has("libmp3lame") => Some(Audio::Mp3),
            () if has("pcm_alaw") => Some(Audio::Alaw),
            () if has("pcm_mulaw") => Some(Audio::Ulaw),
            () => None,
        }
    }

    /// The ffmpeg that can read and write it.
    pub fn ffmpeg(&self) -> Option<Command> {
        if self.new { ffmpeg_new() } else { Some(ffmpeg()) }
    }

    /// The file, made now if it is not there. `None`: no ffmpeg that can.
    pub fn file(&self) -> Option<PathBuf> {
        static MAKING: Mutex<()> = Mutex::new(());
        // A failure while another test made a file says nothing of this one.
        let _one_at_a_time = MAKING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let folder = target().join("e2e-media");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}.flv", self.name));
        if !path.exists() {
            let unfinished = folder.join(format!("{}.{}.flv", self.name, std::process::id()));
            let mut command = self.ffmpeg()?;
            command.args(["-f", "lavfi", "-i", self.picture, "-f", "lavfi", "-i", self.sound]);
            command.args(["-t", &self.seconds.to_string(), "-pix_fmt", "yuv420p"]).args(self.codecs.split(' '));
            Client::start(command.arg(&unfinished)).succeed();
            std::fs::rename(unfinished, &path).unwrap();
        }
        Some(path)
    }

    pub fn tags(&self) -> Option<Vec<Tag>> {
        self.file().map(|path| flv::read(&path))
    }

    /// The tags without the sound that is too much.
    pub fn live_tags(&self) -> Option<Vec<Tag>> {
        let mut sounds = 0;
        let mut tags = self.tags()?;
        tags.retain(|tag| {
            let is_sound = tag.kind == flv::AUDIO && tag.is_frame();
            sounds += usize::from(is_sound);
            !is_sound || sounds <= LIVE_SOUNDS
        });
        Some(tags)
    }

    /// What `framemd5` says of the file.
    pub fn framemd5(&self) -> Option<Streams> {
        let path = self.file()?;
        Some(framemd5_of(self.ffmpeg()?, &path))
    }

    /// Sends the file in real time, once, as an encoder would.
    pub fn push(&self, url: &str) -> Option<Client> {
        self.push_with(url, &[])
    }

    /// As [`Recipe::push`], over and over.
    pub fn push_forever(&self, url: &str) -> Option<Client> {
        self.push_with(url, &["-stream_loop", "-1"])
    }

    fn push_with(&self, url: &str, options: &[&str]) -> Option<Client> {
        let path = self.file()?;
        let mut command = self.ffmpeg()?;
        command.args(options).arg("-re").arg("-i").arg(path).args(["-c", "copy", "-f", "flv", url]);
        Some(Client::start(&mut command))
    }
}

/// What `framemd5` says of any file.
#[track_caller]
pub fn framemd5_of(mut ffmpeg: Command, path: &Path) -> Streams {
    let folder = super::fresh_folder("framemd5");
    let output = folder.join("out");
    Client::start(ffmpeg.args(framemd5::arguments(path.to_str().unwrap(), &output))).succeed();
    let streams = framemd5::read(&output);
    let _ = std::fs::remove_dir_all(folder);
    streams
}

/// Tags without their sound, or without their picture.
pub fn only(tags: &[Tag], kind: u8) -> Vec<Tag> {
    tags.iter().filter(|tag| tag.kind == kind).cloned().collect()
}
