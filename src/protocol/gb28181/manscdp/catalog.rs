//! The items of a catalog (GB/T 28181-2016 A.2.1 g, Annex O, P): channels, and the nodes of the tree that they stand in.
//!
//! Not here: which items are channels of a device that is there (`platform`).

use super::field::{self, Elements, elements, words};
use super::xml::{Element, Writer};

/// A response with items, or a notification with what has become of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    /// Of all parts together.
    pub sum: Option<u32>,
    pub items: Vec<Item>,
}

impl Catalog {
    pub(super) fn read(root: &Element) -> Self {
        Catalog { sum: field::value(root, "SumNum"), items: root.listed("DeviceList", "Item").map(Item::read).collect() }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.text("SumNum", &field::Field::write(&self.sum));
        if !self.items.is_empty() {
            writer.list("DeviceList", "Item", &self.items, |writer, item| item.write(writer));
        }
    }
}

words! {
    pub enum ItemStatus {
        On = "ON" | "OK" | "ONLINE" | "1",
        Off = "OFF" | "OFFLINE" | "0",
    }
}

words! {
    /// What has become of an item.
    pub enum ItemEvent {
        On = "ON",
        Off = "OFF",
        VideoLoss = "VLOST",
        Defect = "DEFECT",
        Add = "ADD",
        Delete = "DEL",
        Update = "UPDATE",
    }
}

elements! {
    /// A node of the catalog. Each field is named and written as the standard has it; `parental`: 1 if it has children; `parent_id`: several
    /// joined by `/`; `register_way`: 1 for a password; `secrecy`: 1 for secret.
    pub struct ItemFields {
        pub device_id: String = "DeviceID",
        pub event: Option<ItemEvent> = "Event",
        pub name: String = "Name",
        pub manufacturer: String = "Manufacturer",
        pub model: String = "Model",
        pub owner: String = "Owner",
        pub civil_code: String = "CivilCode",
        pub block: String = "Block",
        pub address: String = "Address",
        pub parental: Option<u8> = "Parental",
        pub parent_id: String = "ParentID",
        pub safety_way: Option<u8> = "SafetyWay",
        pub register_way: Option<u8> = "RegisterWay",
        pub cert_num: String = "CertNum",
        pub certifiable: Option<u8> = "Certifiable",
        pub err_code: String = "ErrCode",
        pub end_time: String = "EndTime",
        pub secrecy: Option<u8> = "Secrecy",
        pub ip_address: String = "IPAddress",
        pub port: Option<u16> = "Port",
        pub status: Option<ItemStatus> = "Status",
        pub longitude: Option<f64> = "Longitude",
        pub latitude: Option<f64> = "Latitude",
        pub business_group_id: String = "BusinessGroupID",
    }
}

elements! {
    /// `ptz_type`: 1 dome, 2 half dome, 3 fixed, 4 fixed with remote control; the other numbers as the standard has them;
    /// `download_speed`: as `1/2/4`.
    pub struct ItemInfo {
        pub ptz_type: Option<u8> = "PTZType",
        pub position_type: Option<u8> = "PositionType",
        pub room_type: Option<u8> = "RoomType",
        pub use_type: Option<u8> = "UseType",
        pub supply_light_type: Option<u8> = "SupplyLightType",
        pub direction_type: Option<u8> = "DirectionType",
        pub resolution: String = "Resolution",
        pub business_group_id: String = "BusinessGroupID",
        pub download_speed: String = "DownloadSpeed",
        pub svc_space_support_mode: Option<u8> = "SVCSpaceSupportMode",
        pub svc_time_support_mode: Option<u8> = "SVCTimeSupportMode",
    }
}

/// An item of a catalog. Its `Password` element is not kept.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Item {
    #[serde(flatten)]
    pub fields: ItemFields,
    #[serde(skip_serializing_if = "ItemInfo::is_absent")]
    pub info: ItemInfo,
}

impl ItemInfo {
    fn is_absent(&self) -> bool {
        *self == ItemInfo::default()
    }
}

impl Elements for Item {
    /// Devices that have no `Info` may have its elements in the item itself.
    fn read(parent: &Element) -> Self {
        let mut info = ItemInfo::read(parent.child("Info").unwrap_or(parent));
        let fields = ItemFields::read(parent);
        if parent.child("Info").is_none() {
            info.business_group_id.clear();
        }
        Item { fields, info }
    }

    fn write(&self, writer: &mut Writer) {
        self.fields.write(writer);
        writer.element_of_any("Info", |writer| self.info.write(writer));
    }

    fn merge(&mut self, newer: Self) {
        self.fields.merge(newer.fields);
        self.info.merge(newer.info);
    }

    #[cfg(test)]
    fn sample(random: &mut super::tests::Random) -> Self {
        Item { fields: ItemFields::sample(random), info: ItemInfo::sample(random) }
    }
}

impl std::ops::Deref for Item {
    type Target = ItemFields;

    fn deref(&self) -> &ItemFields {
        &self.fields
    }
}

impl Item {
    /// The bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        let fields = &self.fields;
        let texts = [
            &fields.device_id,
            &fields.name,
            &fields.manufacturer,
            &fields.model,
            &fields.owner,
            &fields.civil_code,
            &fields.block,
            &fields.address,
            &fields.parent_id,
            &fields.cert_num,
            &fields.err_code,
            &fields.end_time,
            &fields.ip_address,
            &fields.business_group_id,
            &self.info.resolution,
            &self.info.business_group_id,
            &self.info.download_speed,
        ];
        size_of::<Item>() + texts.iter().map(|text| text.len()).sum::<usize>()
    }
}
