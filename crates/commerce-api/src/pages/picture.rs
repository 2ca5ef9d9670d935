//! A product's picture while the shop has no photographs: a pattern of nine tiles, drawn from what the product is.
//!
//! The same product always has the same picture, and products of a brand share their colours. Shapes stand once in a page
//! (`templates/shapes.html`), colours in the style sheet; a picture only names them.

use sha2::{Digest, Sha256};

/// Sets of colours: `.p0` and so on in the style sheet.
const PALETTES: u8 = 8;
/// Shapes: `#s0` and so on.
const SHAPES: u8 = 14;
/// Colours of a set: `.a`, `.b`, `.c`.
const TONES: [char; 3] = ['a', 'b', 'c'];
/// The edge of a tile.
const EDGE: u8 = 20;
/// Tiles in a row.
const ROW: u8 = 3;

/// One tile.
pub(super) struct Tile {
    pub(super) shape: u8,
    pub(super) tone: char,
    pub(super) x: u8,
    pub(super) y: u8,
}

/// What is drawn.
pub(super) struct Picture {
    pub(super) palette: u8,
    pub(super) tiles: Vec<Tile>,
}

impl Picture {
    /// The picture of a product.
    pub(super) fn new(product_id: i64, brand: Option<&str>) -> Self {
        let seed = Sha256::digest(product_id.to_be_bytes());
        let colours = match brand {
            Some(brand) => Sha256::digest(brand.as_bytes()),
            None => seed,
        };
        let places = (0..ROW).flat_map(|row| (0..ROW).map(move |column| (column * EDGE, row * EDGE)));
        let tiles = places.zip(seed.iter().skip(1)).map(|((x, y), byte)| {
            let tone = TONES[usize::from(byte / SHAPES) % TONES.len()];
            Tile { shape: byte % SHAPES, tone, x, y }
        });
        Self { palette: colours[0] % PALETTES, tiles: tiles.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::{PALETTES, Picture, SHAPES};

    #[test]
    fn a_picture_is_of_its_product_and_its_colours_of_the_brand() {
        let drawn = |id, brand| {
            let picture = Picture::new(id, brand);
            let tiles: Vec<_> =
                picture.tiles.iter().map(|tile| (tile.shape, tile.tone, tile.x, tile.y)).collect();
            (picture.palette, tiles)
        };
        assert_eq!(drawn(7, None), drawn(7, None));
        assert_ne!(drawn(7, None).1, drawn(8, None).1);
        assert_eq!(drawn(7, Some("b")).0, drawn(8, Some("b")).0);
    }

    #[test]
    fn every_shape_and_colour_that_is_named_exists() {
        let shapes = include_str!("../../templates/shapes.html");
        let style = include_str!("../../assets/shop.css");
        for shape in 0..SHAPES {
            assert!(shapes.contains(&format!("id=\"s{shape}\"")), "{shape}");
        }
        for palette in 0..PALETTES {
            assert!(style.contains(&format!(".p{palette} ")), "{palette}");
        }
    }
}
