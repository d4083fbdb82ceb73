package connect

import "strconv"

// Category maps a merchant category code (ISO 18245, four digits) to one of the coarse categories
// that docs/categories.md lists and the database accepts. What fits none of them, or is no code, is
// "other".
func Category(mcc string) string {
	code, err := strconv.Atoi(mcc)
	if err != nil || len(mcc) != 4 {
		return "other"
	}
	for _, r := range categories {
		if r.first <= code && code <= r.last {
			return r.category
		}
	}
	return "other"
}

// categories are searched in order: a narrow range stands before the wide one around it.
var categories = []struct {
	first, last int
	category    string
}{
	{5734, 5734, "software"}, // computer software stores
	{5817, 5817, "software"}, // digital applications
	{7372, 7379, "software"}, // programming, data processing, information retrieval
	{4816, 4816, "software"}, // computer network services
	{5045, 5045, "software"}, // computers, peripherals and software

	{2741, 2741, "media"}, // publishing
	{4899, 4899, "media"}, // cable and pay television
	{5192, 5192, "media"}, // books, periodicals and newspapers
	{5735, 5735, "media"}, // record stores
	{5815, 5816, "media"}, // digital books, films, music, games
	{5818, 5818, "media"}, // digital goods, large merchants
	{5968, 5968, "media"}, // subscription direct marketing
	{5994, 5994, "media"}, // news dealers
	{7829, 7841, "media"}, // films and video
	{7922, 7999, "media"}, // entertainment and recreation

	{8211, 8299, "education"}, // schools and courses
	{8351, 8351, "education"}, // child care

	{4119, 4119, "health"}, // ambulances
	{5047, 5047, "health"}, // medical equipment
	{5122, 5122, "health"}, // drugs
	{5912, 5912, "health"}, // drug stores
	{5975, 5977, "health"}, // hearing aids, orthopaedic goods, cosmetics
	{7297, 7298, "health"}, // massage, health and beauty spas
	{8011, 8099, "health"}, // doctors, hospitals, laboratories

	{5811, 5814, "food"}, // caterers, restaurants, bars
	{5411, 5499, "food"}, // groceries

	{3000, 3999, "travel"}, // airlines, car rental and hotels by name
	{4111, 4112, "travel"}, // commuter transport, passenger railways
	{4121, 4131, "travel"}, // taxis, buses
	{4411, 4411, "travel"}, // cruises
	{4511, 4582, "travel"}, // airlines, airports
	{4722, 4723, "travel"}, // travel agencies
	{7011, 7033, "travel"}, // hotels, camps
	{7512, 7519, "travel"}, // vehicle rental

	{6010, 6051, "finance"}, // banks, money orders
	{6211, 6211, "finance"}, // securities
	{6300, 6300, "finance"}, // insurance
	{6513, 6513, "finance"}, // rents
	{6532, 6540, "finance"}, // payment transactions, stored value

	{8398, 8398, "nonprofit"}, // charities
	{8641, 8699, "nonprofit"}, // associations, churches, political organisations

	{7276, 7276, "professional_services"}, // tax preparation
	{7311, 7361, "professional_services"}, // advertising, cleaning, employment agencies
	{7392, 7399, "professional_services"}, // consulting, business services
	{8111, 8111, "professional_services"}, // legal
	{8911, 8999, "professional_services"}, // architects, accountants, others

	{5000, 5999, "retail"}, // wholesale and shops not named above
}
