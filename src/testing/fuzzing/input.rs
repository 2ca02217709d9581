//! A fuzzer's bytes, read as the choices of a test. Where the bytes end every further choice is 0, so that any input is
//! a whole test and a longer one with the same beginning makes the same choices.

/// What is left of the bytes.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    /// A number below `bound`, which is at least 1; 65,536 and above are never reached.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(u16::from_le_bytes(self.array())) % bound
    }

    /// As many bytes as there are, up to `length`.
    pub(crate) fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn array<const LENGTH: usize>(&mut self) -> [u8; LENGTH] {
        let taken = self.bytes(LENGTH);
        let mut array = [0; LENGTH];
        array[..taken.len()].copy_from_slice(taken);
        array
    }
}
