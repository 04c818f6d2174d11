//! Where a camera looks, in degrees, and the tracks along which it moves by itself: what the standard of 2022 adds (A.2.3.1.11, A.2.4.11 to
//! A.2.4.13, A.2.6.13 to A.2.6.15).
//!
//! Not here: speeds of movements and how tracks are made, which are bytes (`ptz`).

use super::field::{self, Elements, elements};
use super::xml::{Element, Writer};

elements! {
    /// Where it is to look: pan 0 to 360 and tilt in degrees, zoom as a factor. What is absent stays.
    pub struct PrecisePtz {
        pub pan: Option<f64> = "Pan",
        pub tilt: Option<f64> = "Tilt",
        pub zoom: Option<f64> = "Zoom",
    }
}

elements! {
    /// Where it looks, and what it sees: angles in degrees, the distance in metres.
    pub struct PtzPosition {
        pub pan: Option<f64> = "Pan",
        pub tilt: Option<f64> = "Tilt",
        pub zoom: Option<f64> = "Zoom",
        pub horizontal_angle: Option<f64> = "HorizontalFieldAngle",
        pub vertical_angle: Option<f64> = "VerticalFieldAngle",
        pub distance: Option<f64> = "MaxViewDistance",
    }
}

elements! {
    pub struct CruiseName {
        pub number: Option<u32> = "Number",
        pub name: String = "Name",
    }
}

elements! {
    /// `stay_time`: seconds.
    pub struct CruisePoint {
        pub preset: Option<u32> = "PresetIndex",
        pub stay_time: Option<u32> = "StayTime",
        pub speed: Option<u32> = "Speed",
    }
}

/// The tracks of a camera.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CruiseList {
    /// Of all parts together.
    pub sum: Option<u32>,
    pub tracks: Vec<CruiseName>,
}

/// One track.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CruiseTrack {
    pub track: CruiseName,
    /// Of all parts together.
    pub sum: Option<u32>,
    pub points: Vec<CruisePoint>,
}

impl CruiseList {
    pub(super) fn read(root: &Element) -> Self {
        let tracks = root.listed("CruiseTrackList", "CruiseTrack").map(CruiseName::read).collect();
        CruiseList { sum: field::value(root, "SumNum"), tracks }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.text("SumNum", &field::Field::write(&self.sum));
        writer.list("CruiseTrackList", "CruiseTrack", &self.tracks, |writer, track| track.write(writer));
    }
}

impl CruiseTrack {
    pub(super) fn read(root: &Element) -> Self {
        let points = root.listed("CruisePointList", "CruisePoint").map(CruisePoint::read).collect();
        CruiseTrack { track: CruiseName::read(root), sum: field::value(root, "SumNum"), points }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        self.track.write(writer);
        writer.text("SumNum", &field::Field::write(&self.sum));
        writer.list("CruisePointList", "CruisePoint", &self.points, |writer, point| point.write(writer));
    }
}
