package model

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
)

// stored is a model as it is written: in order, so that the same model has the same bytes.
type stored struct {
	Format       int
	Coefficients []storedCoefficients
	Paydays      []storedPaydays
}

type storedCoefficients struct {
	Block    string
	Class    uint8
	Name     string
	Mean     []float64
	Variance []float64
}

type storedPaydays struct {
	Country string
	Usual   []float64
}

// format is raised whenever what is stored means something else. A model of another format is as
// none: the next night makes one.
const format = 1

// MarshalBinary implements [encoding.BinaryMarshaler]. The same model has the same bytes.
func (m *Model) MarshalBinary() ([]byte, error) {
	s := stored{Format: format}
	for _, k := range sortedKeys(m.coefficients) {
		c := storedCoefficients{Block: kinds[k.block].name, Class: uint8(k.class), Name: k.name}
		for _, x := range m.coefficients[k] {
			c.Mean, c.Variance = append(c.Mean, x.Mean), append(c.Variance, x.Variance)
		}
		s.Coefficients = append(s.Coefficients, c)
	}
	for country, usual := range m.paydays {
		s.Paydays = append(s.Paydays, storedPaydays{country, usual[:]})
	}
	slices.SortFunc(s.Paydays, func(a, b storedPaydays) int { return cmp.Compare(a.Country, b.Country) })
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("write a model: %w", err)
	}
	return text, nil
}

// ErrFormat says that a model cannot be read. Without one the oracle knows what it knew before any
// charge.
var ErrFormat = errors.New("it is no model of this version's")

// UnmarshalBinary implements [encoding.BinaryUnmarshaler].
func (m *Model) UnmarshalBinary(text []byte) error {
	var s stored
	if err := json.Unmarshal(text, &s); err != nil || s.Format != format {
		return ErrFormat
	}
	named := make(map[string]block)
	for b, kind := range kinds {
		named[kind.name] = block(b)
	}
	read := Model{coefficients: make(map[key][]coefficient), paydays: make(map[string]*paydays)}
	for _, c := range s.Coefficients {
		b, known := named[c.Block]
		if !known || c.Class >= classes || len(c.Mean) != kinds[b].places || len(c.Variance) != len(c.Mean) {
			return ErrFormat
		}
		all := make([]coefficient, len(c.Mean))
		for i := range all {
			if math.IsNaN(c.Mean[i]) || math.IsInf(c.Mean[i], 0) || !(c.Variance[i] >= 0) {
				return ErrFormat
			}
			all[i] = coefficient{c.Mean[i], c.Variance[i]}
		}
		read.coefficients[key{b, Class(c.Class), c.Name}] = all
	}
	for _, p := range s.Paydays {
		usual := new(paydays)
		if copy(usual[:], p.Usual) != len(usual) || len(p.Usual) != len(usual) {
			return ErrFormat
		}
		sum := 0.0
		for _, x := range usual {
			if !(x >= 0) {
				return ErrFormat
			}
			sum += x
		}
		if math.Abs(sum-1) > 1e-6 {
			return ErrFormat
		}
		read.paydays[p.Country] = usual
	}
	*m = read
	return nil
}
