//! The partitions of the canaries: fixed, and evenly spread over the slots of a cluster.

use crate::ports::store::Partition;

/// The last two bytes of each partition, in the order of their slots. A change makes every store look as if it had lost its
/// canaries.
pub(super) const PARTITIONS: [u16; 16] = [203, 290, 41, 17, 265, 232, 42, 18, 58, 234, 40, 12, 59, 304, 39, 11];

/// Whether a partition is that of a canary.
pub(in crate::service) fn is_canary(partition: Partition) -> bool {
    partitions().any(|canary| canary == partition)
}

/// All of them, in that order.
pub(super) fn partitions() -> impl Iterator<Item = Partition> {
    PARTITIONS.into_iter().map(|last| {
        let mut partition = *b"otpd canary    ";
        let [.., high, low] = &mut partition;
        [*high, *low] = last.to_be_bytes();
        Partition(partition)
    })
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    /// CRC-16/XMODEM, by which Redis Cluster chooses slots.
    fn slot(key: &str) -> u16 {
        let crc = key.bytes().fold(0_u16, |crc, byte| {
            (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| (crc << 1) ^ if crc >> 15 == 1 { 0x1021 } else { 0 })
        });
        crc % 16_384
    }

    #[test]
    fn each_sixteenth_of_a_clusters_slots_has_a_canary() {
        assert_eq!(slot("123456789"), 0x31C3);
        let sixteenths = partitions().map(|partition| slot(&URL_SAFE_NO_PAD.encode(partition.0)) / 1_024);
        assert_eq!(sixteenths.collect::<Vec<_>>(), (0..16).collect::<Vec<_>>());
    }

    #[test]
    fn a_partition_of_a_canary_is_known_as_one() {
        assert!(partitions().all(is_canary));
        assert!(!is_canary(Partition([7; 15])));
    }
}
