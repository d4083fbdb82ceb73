package report

import (
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"io"
	"strings"
)

// What a chart's drawing may consist of. Anything else that the library might come to write is an
// error, not a part of the page.
var (
	svgElements   = map[string]bool{"svg": true, "g": true, "path": true, "text": true}
	svgAttributes = map[string]bool{
		"viewBox": true, "transform": true, "d": true, "x": true, "y": true,
		"fill": true, "fill-opacity": true, "stroke": true, "stroke-opacity": true, "stroke-width": true, "stroke-dasharray": true, "font-size": true, "font-weight": true,
	}
	// The page sets fonts and the size itself, and inside HTML no namespace is declared.
	svgDropped = map[string]bool{
		"width": true, "height": true, "xmlns": true, "xlink": true,
		"font-family": true, "font-variant": true, "font-style": true,
	}
)

// inline makes a drawing a part of an HTML page: without prologue, namespaces and style attributes,
// which the page's policy does not allow, and with a title and a description.
func inline(drawing io.Reader, id, title, description string) (template.HTML, error) {
	var out strings.Builder
	decoder := xml.NewDecoder(drawing)
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return template.HTML(out.String()), nil //nolint:gosec // escaped
		}
		if err != nil {
			return "", err
		}
		switch token := token.(type) {
		case xml.StartElement:
			if err := open(&out, token); err != nil {
				return "", err
			}
			if token.Name.Local == "svg" {
				name := template.HTMLEscapeString(id)
				fmt.Fprintf(&out, ` role="img" aria-labelledby="%s-title %s-desc"><title id="%s-title">%s</title><desc id="%s-desc">%s</desc>`,
					name, name, name, template.HTMLEscapeString(title), name, template.HTMLEscapeString(description))
			} else {
				out.WriteString(">")
			}
		case xml.EndElement:
			fmt.Fprintf(&out, "</%s>", token.Name.Local)
		case xml.CharData:
			if text := strings.TrimSpace(string(token)); text != "" {
				out.WriteString(template.HTMLEscapeString(text))
			}
		}
	}
}

// open writes an element's tag without its end. The properties of a style attribute become
// attributes.
func open(out *strings.Builder, element xml.StartElement) error {
	if !svgElements[element.Name.Local] {
		return fmt.Errorf("unexpected element %q", element.Name.Local)
	}
	fmt.Fprintf(out, "<%s", element.Name.Local)
	write := func(name, value string) error {
		if svgDropped[name] {
			return nil
		}
		if !svgAttributes[name] {
			return fmt.Errorf("unexpected attribute %q", name)
		}
		fmt.Fprintf(out, ` %s="%s"`, name, template.HTMLEscapeString(value))
		return nil
	}
	for _, attribute := range element.Attr {
		if attribute.Name.Local != "style" {
			if err := write(attribute.Name.Local, attribute.Value); err != nil {
				return err
			}
			continue
		}
		for property := range strings.SplitSeq(attribute.Value, ";") {
			name, value, _ := strings.Cut(property, ":")
			if err := write(strings.TrimSpace(name), strings.TrimSpace(value)); err != nil {
				return err
			}
		}
	}
	return nil
}
