//! MANSCDP (GB/T 28181 Annex A): the XML that devices and platforms send each other, to values and back.
