package db

// Texts are the words of a column as a query takes a list of them.
func Texts[Word ~string](words []Word) []string {
	texts := make([]string, len(words))
	for i, word := range words {
		texts[i] = string(word)
	}
	return texts
}
