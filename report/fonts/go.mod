// Stands in for the module of this name, by the replace in ../../go.mod: gonum.org/v1/plot embeds the twelve Liberation fonts, 4.4 MB of
// them, and our charts are laid out by the two that are here, unchanged. The other ten packages give the regular one.
module codeberg.org/go-fonts/liberation

go 1.26
