package message

import (
	"strings"

	"golang.org/x/net/html"
)

// linksTo says whether a page has an <a> that leads to address, as a mail program reads it.
func linksTo(page, address string) bool {
	tokens := html.NewTokenizer(strings.NewReader(page))
	for {
		switch tokens.Next() {
		case html.ErrorToken:
			return false
		case html.StartTagToken:
			token := tokens.Token()
			if token.Data != "a" {
				continue
			}
			for _, attribute := range token.Attr {
				if attribute.Key == "href" && strings.TrimSpace(attribute.Val) == address {
					return true
				}
			}
		default:
		}
	}
}
