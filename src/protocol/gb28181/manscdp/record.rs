//! Searches in what a device has recorded, and what it finds (GB/T 28181-2016 A.2.4 e, A.2.6 e). Times are the device's, without a zone:
//! `2026-01-02T15:04:05`.

use super::field::{self, Elements, elements, words};
use super::xml::{Element, Writer};

words! {
    pub enum RecordType {
        All = "all",
        Time = "time",
        Alarm = "alarm",
        Manual = "manual",
    }
}

elements! {
    /// `secrecy`: 1 for secret; `indistinct_query`: 1 to search elsewhere than at the device too.
    pub struct RecordQuery {
        pub start_time: String = "StartTime",
        pub end_time: String = "EndTime",
        pub file_path: String = "FilePath",
        pub address: String = "Address",
        pub secrecy: Option<u8> = "Secrecy",
        pub kind: Option<RecordType> = "Type",
        pub recorder_id: String = "RecorderID",
        pub indistinct_query: Option<u8> = "IndistinctQuery",
    }
}

elements! {
    /// `file_size`: bytes.
    pub struct Record {
        pub device_id: String = "DeviceID",
        pub name: String = "Name",
        pub file_path: String = "FilePath",
        pub address: String = "Address",
        pub start_time: String = "StartTime",
        pub end_time: String = "EndTime",
        pub secrecy: Option<u8> = "Secrecy",
        pub kind: Option<RecordType> = "Type",
        pub recorder_id: String = "RecorderID",
        pub file_size: Option<u64> = "FileSize",
    }
}

impl Record {
    /// The bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        let texts =
            [&self.device_id, &self.name, &self.file_path, &self.address, &self.start_time, &self.end_time, &self.recorder_id];
        size_of::<Record>() + texts.iter().map(|text| text.len()).sum::<usize>()
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// Of whatever was searched.
    pub name: String,
    /// Of all parts together.
    pub sum: Option<u32>,
    pub records: Vec<Record>,
}

impl Records {
    pub(super) fn read(root: &Element) -> Self {
        Records {
            name: field::read(root, "Name"),
            sum: field::value(root, "SumNum"),
            records: root.listed("RecordList", "Item").map(Record::read).collect(),
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.text("Name", &self.name);
        writer.text("SumNum", &field::Field::write(&self.sum));
        if !self.records.is_empty() {
            writer.list("RecordList", "Item", &self.records, |writer, record| record.write(writer));
        }
    }
}
