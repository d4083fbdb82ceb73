package message

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"phantom/playbook"
	"phantom/zone"
)

// An SMS goes to mobile numbers of these countries alone. A number that costs more than a text (a
// premium, satellite or Caribbean one behind +1) is how an SMS sender is robbed, so what is not
// known to be a mobile number is not written to. The plans are those of the ITU,
// https://www.itu.int/oth/T0202.aspx; libphonenumber knows more and weighs 4 MB.
var mobiles = []struct {
	country string
	shape   *regexp.Regexp
}{
	// and CA; notNANP takes away what shares their code
	{"US", regexp.MustCompile(`^\+1([2-9][0-8][0-9])[2-9][0-9]{6}$`)},
	{"GB", regexp.MustCompile(`^\+447[1-57-9][0-9]{8}$`)},
	{"DE", regexp.MustCompile(`^\+491(5[0-9]{9}|6[023][0-9]{7,8}|7[0-9]{8,9})$`)},
	{"FR", regexp.MustCompile(`^\+33(6[0-9]{8}|7[3-9][0-9]{7})$`)},
	{"ES", regexp.MustCompile(`^\+34(6[0-9]{8}|7[1-4][0-9]{7})$`)},
	{"IT", regexp.MustCompile(`^\+393[0-9]{8,9}$`)},
	{"NL", regexp.MustCompile(`^\+316[1-58][0-9]{7}$`)},
	{"AT", regexp.MustCompile(`^\+436[5-9][0-9]{7,10}$`)},
	{"CH", regexp.MustCompile(`^\+417[4-9][0-9]{7}$`)},
	{"IE", regexp.MustCompile(`^\+3538[3-9][0-9]{7}$`)},
	{"BE", regexp.MustCompile(`^\+324[5-9][0-9]{7}$`)},
	{"PT", regexp.MustCompile(`^\+3519[1236][0-9]{7}$`)},
	{"SE", regexp.MustCompile(`^\+467[02369][0-9]{7}$`)},
	{"NO", regexp.MustCompile(`^\+47[49][0-9]{7}$`)},
	// its mobile numbers have no range of their own
	{"DK", regexp.MustCompile(`^\+45([2-8][0-9]{7}|9[1-9][0-9]{6})$`)},
	{"FI", regexp.MustCompile(`^\+358(4[0-9]{7,9}|50[0-9]{6,8})$`)},
	{"AU", regexp.MustCompile(`^\+614[0-9]{8}$`)},
	{"NZ", regexp.MustCompile(`^\+642[0-9]{7,9}$`)},
}

// notNANP are area codes behind +1 outside the United States and Canada, and those that are no
// subscriber's: toll-free, premium, personal.
var notNANP = strings.Fields(`242 246 264 268 284 340 345 441 473 649 658 664 670 671 684 721 758 767 784 787 809 829 849 868 869 876 939
	500 521 522 523 524 525 526 527 528 529 533 544 566 577 588 600 622 700 710 800 822 833 844 855 866 877 880 881 882 883 884 885 886 887 888 889
	211 311 411 511 611 711 811 900 911 976`)

// notGB are the mobile ranges of Jersey, Guernsey and the Isle of Man behind +44.
var notGB = []string{"+447509", "+447700", "+447797", "+447829", "+447937", "+447781", "+447839", "+447911", "+447524", "+447624", "+447924"}

var (
	e164Shape  = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
	nanpShape  = regexp.MustCompile(`^[2-9][0-9]{9}$`)
	separators = strings.NewReplacer(" ", "", "-", "", "(", "", ")", "", ".", "", "/", "", "\u00a0", "")
)

// parsePhone reads a number as people write it. Without a country code it is understood in the
// United States and Canada alone, whose national numbers cannot be read in two ways.
func parsePhone(text, country string) (string, bool) {
	number := separators.Replace(text)
	if rest, ok := strings.CutPrefix(number, "00"); ok {
		number = "+" + rest
	}
	if (country == "US" || country == "CA") && nanpShape.MatchString(number) {
		number = "+1" + number
	}
	return number, e164Shape.MatchString(number)
}

// textable says whether an SMS may go to a number.
func textable(number string) bool {
	for _, mobile := range mobiles {
		match := mobile.shape.FindStringSubmatch(number)
		if match == nil {
			continue
		}
		switch mobile.country {
		case "US":
			return !slices.Contains(notNANP, match[1])
		case "GB":
			return !slices.ContainsFunc(notGB, func(prefix string) bool { return strings.HasPrefix(number, prefix) })
		}
		return true
	}
	return false
}

// countriesOf are the countries in which a number's owner may live, as its prefix tells: none for
// one that is not written to.
func countriesOf(number string) []string {
	for _, mobile := range mobiles {
		if !mobile.shape.MatchString(number) {
			continue
		}
		if mobile.country == "US" {
			return []string{"US", "CA"}
		}
		return []string{mobile.country}
	}
	return nil
}

// ZonesFor are where the person may live whom a message is for, most likely in the first. An email
// is read when they like, an SMS rings: it keeps to all zones of the customer's country and, once
// it is known, of their number's.
func ZonesFor(channel string, own *time.Location, number string) []*time.Location {
	if channel != playbook.SMS {
		return []*time.Location{own}
	}
	return append(zone.Beside(own), zone.InCountries(countriesOf(number)...)...)
}
