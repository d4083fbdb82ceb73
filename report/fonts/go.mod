// Stands in for the module of this name, by the replace in ../../go.mod. gonum.org/v1/plot embeds
// the twelve Liberation fonts, 4.4 MB of them. Our charts take the widths of texts from the regular
// one, unchanged, and the other eleven packages give it too.
module codeberg.org/go-fonts/liberation

go 1.26
