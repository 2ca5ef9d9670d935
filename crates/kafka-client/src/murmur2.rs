//! The hash by which Java producers, and ours, find a key's partition.

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;
/// `Utils.toPositive` of the Java client.
const POSITIVE: u32 = 0x7fff_ffff;

/// The Java client's `toPositive(murmur2(key))`: a number below 2³¹.
#[must_use]
pub fn murmur2(key: &[u8]) -> u32 {
    signed_bits(key) & POSITIVE
}

/// `Utils.murmur2`, as the bits of Java's `int`.
fn signed_bits(key: &[u8]) -> u32 {
    // Java counts the length in 32 bits as well; a longer key does not fit a record.
    let length = u32::try_from(key.len() & 0xffff_ffff).unwrap_or(u32::MAX);
    let (words, rest) = key.as_chunks::<4>();
    let mut hash = SEED ^ length;
    for word in words {
        let mut bits = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        bits ^= bits >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ bits.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_hash_of_the_java_client() {
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107_i32),
        ] {
            let bits = signed_bits(key.as_bytes());
            assert_eq!(i32::from_ne_bytes(bits.to_ne_bytes()), expected, "{key}");
            assert_eq!(murmur2(key.as_bytes()), bits & POSITIVE);
        }
    }
}
